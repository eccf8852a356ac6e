"""`ctl db import`: moves instances from the table of DB-GPT's controller into the registry."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dbgpt_ctl.cli.commands.db import (
    DatabaseSettings,
    counts_text,
    open_databases,
    print_facts,
    source_object,
    takes_database_settings,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, ReportOutput
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, say
from dbgpt_ctl.errors import NotFound

if TYPE_CHECKING:
    from dbgpt_ctl.registry.database.import_dbgpt import Imported

CONTEXT_SETTINGS = UNDERSCORES_TOO
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be imported, and write nothing at all.")]


@explained(
    "ctl db import --dry-run --registry-db-host db1 --registry-db-user ctl",
    "ctl db import --env-file prod.env",
    exit_codes={
        4: "The database has no table of DB-GPT's controller.",
    },
)
@takes_database_settings
def import_(settings: DatabaseSettings, *, dry_run: DryRun = False, output: ReportOutput = OutputFormat.TEXT) -> None:
    """Import instances from the table of DB-GPT's controller.

    That table is in the same database, and is only read. An instance that the registry knows already stays as it is, so
    the import can be repeated. An instance that is healthy in the table counts as healthy for one heartbeat timeout:
    time for its worker to send a heartbeat.
    """
    from dbgpt_ctl.registry.database.import_dbgpt import DBGPT_TABLE, import_instances, read_dbgpt_table

    with open_databases(settings) as (database,):
        if not database.exists():
            raise NotFound(f"database {database.place}: no such file; name the one that DB-GPT's controller uses")
        source = database.read(read_dbgpt_table)
        if source is None:
            raise NotFound(
                f"{database.place} holds no table {DBGPT_TABLE}: name the database that DB-GPT's controller uses"
            )
        imported = import_instances(
            database,
            source,
            clock=database.clock,
            timeout=timedelta(seconds=settings.heartbeat_timeout_secs),
            max_instances=settings.max_instances,
            dry_run=dry_run,
        )
    for row in source.refused:
        say(f"row {row.id} refused: {row.reason}")
    if output is OutputFormat.JSON:
        print_json(_object(database.place, imported, dry_run=dry_run))
    else:
        print_facts(_lines(database.place, imported, dry_run=dry_run))


def _lines(place: str, imported: Imported, *, dry_run: bool) -> dict[str, str]:
    """The result by the names of its facts."""
    source = imported.source
    return {
        "database": place,
        "rows": str(source.rows),
        "duplicates": str(source.duplicates),
        "refused": str(len(source.refused)),
        "known": f"{imported.known}, left alone",
        "to import" if dry_run else "imported": f"{imported.taken}: {counts_text(imported.states, imported.drained)}",
    }


def _object(place: str, imported: Imported, *, dry_run: bool) -> dict[str, Any]:
    """The same for JSON: counts, `refused` with the id, field and reason of each row, `states` by state,
    and how many of all are `drained`."""
    return {
        "database": place,
        "dry_run": dry_run,
        **source_object(imported.source),
        "known": imported.known,
        "imported": imported.taken,
        "states": imported.states,
        "drained": imported.drained,
    }
