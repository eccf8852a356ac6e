"""`ctl db`: the database of a registry, beside the controllers.

Like `serve` it imports the server side, inside its functions only.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self

import typer

from dbgpt_ctl.cli.commands.db.report import check_lines, check_object, import_lines, import_object, print_report
from dbgpt_ctl.cli.framework.errors import Command, Group
from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, takes_settings
from dbgpt_ctl.cli.output.escaping import defused
from dbgpt_ctl.cli.output.stdout import print_json, print_lines, say
from dbgpt_ctl.errors import NotFound, RegistryUnavailable, UsageError
from dbgpt_ctl.settings.load import knobs_of
from dbgpt_ctl.settings.schema import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.settings.load import Knob

app = typer.Typer(cls=Group, help="Look after the database of a registry, and move into it from DB-GPT's controller.")

_CONNECT_SECS = 5
_ANSWER_SECS = 20
"""More than a controller waits: nobody's request hangs on it, and a change of a large table takes its time."""


class ReportFormat(StrEnum):
    """The values of `-o`."""

    TEXT = "text"
    JSON = "json"


Output = Annotated[ReportFormat, typer.Option("--output", "-o", help="How to print the report.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what would be imported and write nothing at all.")]


class _DatabaseSettings(ControllerSettings):
    """Those of a controller whose registry is a database, whatever the variables say of its type."""

    def checked(self) -> Self:
        if self.registry_type == "embedded" and self.origins.get("registry_type", "").startswith("flag"):
            raise UsageError("registry_type embedded has no database: leave the flag out")
        return super(_DatabaseSettings, replace(self, registry_type="database", remote_addr=None)).checked()


def _flags() -> Iterator[Knob]:
    """The knobs that matter to the database."""
    for knob in knobs_of(ControllerSettings):
        if knob.name == "registry_type":
            yield knob._replace(default="database", help="kind of the registry; no other than database has one")
        elif knob.name.startswith("registry_") or knob.name in {"heartbeat_timeout_secs", "max_instances"}:
            yield knob


_takes_settings = takes_settings(_DatabaseSettings, [*_flags()])


@app.command("import", cls=Command, context_settings=UNDERSCORES_TOO)
@_takes_settings
def import_(settings: _DatabaseSettings, *, dry_run: DryRun = False, output: Output = ReportFormat.TEXT) -> None:
    """Take over who is in the table of DB-GPT's controller, in the same database.

    What is known here already is left alone, and DB-GPT's table is not changed: it may be repeated. Who is healthy
    there is listed as healthy for one heartbeat timeout; who lives beats within it. Exits with 4 without that table.
    """
    from dbgpt_ctl.registry.database.import_dbgpt import DBGPT_TABLE, import_instances, read_dbgpt_table

    with _open(settings) as (database,):
        if _lacks_file(database):
            raise NotFound(f"database {database.place}: no such file; name the one that DB-GPT's controller uses")
        source = database.read(read_dbgpt_table)
        if source is None:
            raise NotFound(
                f"{database.place} holds no table {DBGPT_TABLE}: name the database that DB-GPT's controller uses"
            )
        imported = import_instances(
            database,
            source,
            clock=_clock(database),
            timeout=timedelta(seconds=settings.heartbeat_timeout_secs),
            most=settings.max_instances,
            dry_run=dry_run,
        )
    for row in source.refused:
        say(f"row {row.id} refused: {row.reason}")
    if output is ReportFormat.JSON:
        print_json(import_object(database.place, imported, dry_run=dry_run))
    else:
        print_report(import_lines(database.place, imported, dry_run=dry_run))


@app.command("check", cls=Command, context_settings=UNDERSCORES_TOO)
@_takes_settings
def check(settings: _DatabaseSettings, *, output: Output = ReportFormat.TEXT) -> int:
    """Look for what is wrong: schema, clocks, the long-dead, rows that cannot be imported.

    Writes nothing. Exits with 1 if something is wrong, with 3 if no database host can be reached.
    """
    from dbgpt_ctl.clock import SystemClock
    from dbgpt_ctl.registry.database.check import check_up

    with _open(settings, one_by_one=True) as databases:
        if _lacks_file(databases[0]):
            raise RegistryUnavailable(
                f"database {databases[0].place}: no such file; name another or start a controller"
            )
        checkup = check_up(
            databases,
            host_clock=SystemClock(),
            clock=_clock(databases[0]),
            timeout=timedelta(seconds=settings.heartbeat_timeout_secs),
        )
    findings = checkup.findings()
    if output is ReportFormat.JSON:
        print_json(check_object(checkup) | {"findings": [each._asdict() for each in findings]})
    else:
        print_report(check_lines(checkup))
        print_lines([defused(f"problem: {each.what}: {each.advice}") for each in findings] or ["all is well"])
    return 1 if findings else 0


@app.command("upgrade", cls=Command, context_settings=UNDERSCORES_TOO)
@_takes_settings
def upgrade(settings: _DatabaseSettings, *, output: Output = ReportFormat.TEXT) -> None:
    """Bring the tables of the registry to the version of this release, which creates them where there are none."""
    from dbgpt_ctl.registry.database.import_dbgpt import schema_version

    with _open(settings) as (database,):
        before = 0 if _lacks_file(database) else database.read(schema_version)
        database.prepare()
        after = database.read(schema_version)
    if output is ReportFormat.JSON:
        print_json({"database": database.place, "from": before, "to": after})
    elif before == after:
        print_lines([defused(f"{database.place} is at schema version {after} already")])
    else:
        print_lines([defused(f"{database.place} upgraded from schema version {before} to {after}")])


@contextmanager
def _open(settings: _DatabaseSettings, *, one_by_one: bool = False) -> Iterator[list[Database]]:
    """The database over all its hosts or, `one_by_one`, at each of them; connections are closed at the end."""
    for line in settings.secret_flag_warnings():
        say(f"warning: {line}")
    import logging

    logging.getLogger("dbgpt_ctl").addHandler(logging.NullHandler())  # what is wrong is told once, as an error
    from random import Random

    from dbgpt_ctl.controller.place import database_hosts, database_url
    from dbgpt_ctl.registry.database.engine import DatabaseTimeouts
    from dbgpt_ctl.registry.database.session import Database

    hosts = database_hosts(settings)
    databases = [
        Database(
            database_url(settings),
            hosts=some,
            ssl_ca=settings.registry_db_ssl_ca,
            pool_size=1,
            max_overflow=0,
            timeouts=DatabaseTimeouts(
                connect=_CONNECT_SECS, io=_ANSWER_SECS, lock=_CONNECT_SECS, pool=_CONNECT_SECS, patience=_ANSWER_SECS
            ),
            randomness=Random(),  # noqa: S311 - spreads retries
        )
        for some in ([(each,) for each in hosts] if one_by_one and hosts else [hosts])
    ]
    try:
        yield databases
    finally:
        for each in databases:
            each.dispose()


def _lacks_file(database: Database) -> bool:
    """To connect to a file of SQLite would create it."""
    from pathlib import Path

    return database.is_sqlite and not Path(database.place).exists()


def _clock(database: Database) -> Clock | None:
    """None: the database's own (rule 7)."""
    from dbgpt_ctl.clock import SystemClock

    return SystemClock() if database.is_sqlite else None
