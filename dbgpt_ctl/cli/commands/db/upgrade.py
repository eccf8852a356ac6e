"""`ctl db upgrade`: brings the tables of a registry to the version of this release."""

from __future__ import annotations

from dbgpt_ctl.cli.commands.db import (
    DatabaseSettings,
    open_databases,
    takes_database_settings,
)
from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, ReportOutput
from dbgpt_ctl.cli.output.escaping import defused
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines

CONTEXT_SETTINGS = UNDERSCORES_TOO


@takes_database_settings
def upgrade(settings: DatabaseSettings, *, output: ReportOutput = OutputFormat.TEXT) -> None:
    """Create or upgrade the tables of the registry.

    They get the version of this release.
    """
    from dbgpt_ctl.registry.database.schema import schema_version

    with open_databases(settings) as (database,):
        before = database.read(schema_version) if database.exists() else 0
        database.prepare()
        after = database.read(schema_version)
    if output is OutputFormat.JSON:
        print_json({"database": database.place, "from": before, "to": after})
    elif before == after:
        print_lines([defused(f"{database.place} is at schema version {after} already")])
    else:
        print_lines([defused(f"{database.place} upgraded from schema version {before} to {after}")])
