"""`ctl serve`. It imports the controller only to run it."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from dbgpt_ctl.cli.framework.help_text import explained
from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, output_option, takes_settings
from dbgpt_ctl.cli.output.signals import end_by
from dbgpt_ctl.cli.output.stdout import OutputFormat, print_json, print_lines, print_table, say
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.settings.warnings import warnings_of

CONTEXT_SETTINGS = UNDERSCORES_TOO
"""For Typer's command."""


@explained(
    "ctl serve",
    "ctl serve --registry database --registry-db-host db1 --registry-db-user ctl",
    "ctl serve --env-file prod.env --check",
    exit_codes={
        0: "SIGTERM ended it, or --check or --show-config found no mistake.",
        1: "It cannot listen, or not use its registry.",
        2: "A setting or a file is wrong.",
        3: "--check cannot reach the database, for which a start would wait.",
    },
)
@takes_settings(ControllerSettings)
def serve(
    settings: ControllerSettings,
    *,
    show_config: Annotated[
        bool,
        typer.Option("--show-config", help="Print every setting with its value and origin, and start nothing."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check settings, files and database, print one line, and start nothing."),
    ] = False,
    output: Annotated[
        OutputFormat, output_option(OutputFormat.TABLE, OutputFormat.JSON, help="Format of --show-config.")
    ] = OutputFormat.TABLE,
) -> None:
    """Run the controller until SIGTERM or Ctrl-C.

    The value of a setting comes from the first of these that has one: its flag, its variable in the environment, its
    variable in the .env file, its default. Without --env-file that file is ./.env, which may not say where a password
    or a token from elsewhere goes, nor what code to load.
    """
    if show_config and check:
        raise UsageError("--show-config and --check are both given: leave one of them out")
    starts = not (show_config or check)
    if not (starts and settings.stderr_is_json):  # the log has them then
        for line in [*warnings_of(settings), *_access_warnings(settings, may_fail=show_config)]:
            say(f"warning: {line}")
    if show_config:
        _print_config(settings, output)
        return
    if check:
        from dbgpt_ctl.controller.preflight import check_start  # imports SQLAlchemy for a database

        print_lines([check_start(settings)])
        return
    if settings.is_loopback and not settings.stderr_is_json:
        say(f"{settings.host} is loopback only: other hosts need --host")
    from dbgpt_ctl.controller.bootstrap import run  # imports FastAPI and uvicorn

    try:
        run(settings)
    except KeyboardInterrupt:
        end_by(signal.SIGINT)


def _access_warnings(settings: ControllerSettings, *, may_fail: bool) -> list[str]:
    """What is worth a warning about the check of callers. Raises UsageError as a start would, unless it `may_fail`."""
    from dbgpt_ctl.controller.auth.start import access_warnings

    try:
        return access_warnings(settings)
    except UsageError as error:
        if not may_fail:
            raise
        return [str(error)]


def _print_config(settings: ControllerSettings, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json({setting.name: {"value": shown, "from": origin} for setting, shown, origin in settings.effective()})
        return
    from dbgpt_ctl.cli.output.table import Column

    rows = [
        (setting.name, setting.text(getattr(settings, setting.name)) or "-", origin)
        for setting, _, origin in settings.effective()
    ]
    print_table([Column("SETTING"), Column("VALUE"), Column("FROM")], rows, headers=True)
