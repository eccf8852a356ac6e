"""`ctl db`: the database of a registry, without a controller. This module holds what its verbs share.

Like `serve` the verbs use the server side, and import it inside functions only.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from dbgpt_ctl.cli.framework.options import takes_settings
from dbgpt_ctl.cli.output.stdout import print_lines, say
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.load import declared_settings
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.settings.warnings import secret_warnings
from dbgpt_ctl.text.escaping import defused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.settings.load import Setting


class DatabaseSettings(ControllerSettings):
    """The settings of a controller whose registry is a database, whatever type the variables name."""

    def checked(self) -> Self:
        if self.registry_type == "embedded" and self.origins.get("registry_type", "").startswith("flag"):
            raise UsageError("registry_type embedded has no database: leave the flag out")
        return super(DatabaseSettings, replace(self, registry_type="database", remote_addr=None)).checked()


def _flags() -> Iterator[Setting]:
    """The settings that matter to the database."""
    for setting in declared_settings(ControllerSettings):
        if setting.name == "registry_type":
            yield setting._replace(default="database", help="type of the registry; for this command it is database")
        elif setting.name.startswith("registry_") or setting.name in {"heartbeat_timeout_secs", "max_instances"}:
            yield setting


takes_database_settings = takes_settings(DatabaseSettings, [*_flags()])


@contextmanager
def open_databases(settings: DatabaseSettings, *, one_by_one: bool = False) -> Iterator[list[Database]]:
    """The database over all its hosts or, `one_by_one`, at each of them; connections are closed at the end."""
    for line in (*settings.remarks, *secret_warnings(settings)):
        say(f"warning: {line}")
    from dbgpt_ctl.controller import bootstrap

    with bootstrap.open_databases(settings, one_by_one=one_by_one) as databases:
        yield databases


def print_facts(lines: Mapping[str, str]) -> None:
    """A line for each fact, its name first."""
    width = max(map(len, lines)) + 2
    print_lines([defused(f"{name:<{width}}{text}") for name, text in lines.items()])
