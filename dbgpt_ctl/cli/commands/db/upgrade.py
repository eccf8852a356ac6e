"""`ctl db upgrade`: prepares the tables of a registry with the rights of another user than the controllers'."""

from __future__ import annotations

from dbgpt_ctl.cli.commands.db import (
    DatabaseSettings,
    open_databases,
    takes_database_settings,
)
from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, ReportOutput
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines
from dbgpt_ctl.text.escaping import defused

CONTEXT_SETTINGS = UNDERSCORES_TOO


@explained(
    "ctl db upgrade --registry-db-host db1 --registry-db-user ctl",
    "ctl db upgrade --env-file prod.env",
)
@takes_database_settings
def upgrade(settings: DatabaseSettings, *, output: ReportOutput = OutputFormat.TEXT) -> None:
    """Create the tables of the registry, or add what they lack.

    Each controller does this at its start. Run it as a user who may create and alter tables when the user of the
    controllers may not. Controllers of the release before go on.
    """
    from dbgpt_ctl.registry.database.tables.schema import ABSENT, schema_version

    with open_databases(settings) as (database,):
        before = (database.read(schema_version) if database.exists() else ABSENT).version
        database.prepare()
        after = database.read(schema_version).version
    if output is OutputFormat.JSON:
        print_json({"database": database.place, "from": before, "to": after})
    elif before == after:
        print_lines([defused(f"{database.place} is at schema version {after} already")])
    elif before == 0:
        print_lines([defused(f"{database.place} holds the tables now, at schema version {after}")])
    else:
        print_lines([defused(f"{database.place} upgraded from schema version {before} to {after}")])
