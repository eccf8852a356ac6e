"""`ctl serve`: runs the controller, whose libraries are imported only when it starts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dbgpt_ctl.cli.framework.options import UNDERSCORES_TOO, takes_settings
from dbgpt_ctl.cli.output.stdout import print_json, print_table, say
from dbgpt_ctl.settings.schema import ControllerSettings

CONTEXT_SETTINGS = UNDERSCORES_TOO
"""The Typer context settings of `serve`."""


class ConfigFormat(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    JSON = "json"


@takes_settings(ControllerSettings)
def serve(
    settings: ControllerSettings,
    *,
    show_config: Annotated[
        bool,
        typer.Option("--show-config", help="Print the value of every setting and where it came from; start nothing."),
    ] = False,
    output: Annotated[
        ConfigFormat, typer.Option("-o", "--output", help="Format of --show-config.")
    ] = ConfigFormat.TABLE,
) -> None:
    """Run the controller, until SIGTERM or Ctrl-C.

    A setting comes from its flag, else its variable in the environment, else in a .env file, else its default.
    """
    if show_config:
        _print_config(settings, output)
        return
    for line in settings.warnings():
        say(f"warning: {line}")
    if settings.is_loopback:
        say(f"{settings.host} is loopback only: other hosts need --host")
    from dbgpt_ctl.controller.bootstrap import run  # FastAPI and uvicorn, for this command alone

    run(settings)


def _print_config(settings: ControllerSettings, output: ConfigFormat) -> None:
    if output is ConfigFormat.JSON:
        print_json({knob.name: {"value": shown, "from": origin} for knob, shown, origin in settings.effective()})
        return
    from dbgpt_ctl.cli.output.table import Column

    rows = [
        (knob.name, knob.text(getattr(settings, knob.name)) or "-", origin) for knob, _, origin in settings.effective()
    ]
    print_table([Column("SETTING"), Column("VALUE"), Column("FROM")], rows, headers=True)
