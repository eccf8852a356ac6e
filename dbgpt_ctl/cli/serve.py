"""`ctl serve`: runs the controller. The one command that imports it, and only when it is about to run."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dbgpt_ctl.cli.options import UNDERSCORES_TOO, takes_settings
from dbgpt_ctl.cli.output import print_json, print_table, say
from dbgpt_ctl.settings import ControllerSettings, knobs_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


CONTEXT_SETTINGS = UNDERSCORES_TOO
"""To be given to Typer with `serve`."""


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
    _hide_secrets(settings)
    for line in settings.warnings():
        say(f"warning: {line}")
    if settings.is_loopback:
        say(f"{settings.host} is loopback only: other hosts need --host")
    from dbgpt_ctl.controller.main import run  # FastAPI and uvicorn, for this command alone

    run(settings)


def _print_config(settings: ControllerSettings, output: ConfigFormat) -> None:
    if output is ConfigFormat.JSON:
        print_json({knob.name: {"value": shown, "from": origin} for knob, shown, origin in settings.effective()})
        return
    from dbgpt_ctl.cli.table import Column

    rows = [(knob.name, "-" if shown is None else str(shown), origin) for knob, shown, origin in settings.effective()]
    print_table([Column("SETTING"), Column("VALUE"), Column("FROM")], rows, headers=True)


def _hide_secrets(settings: ControllerSettings) -> None:
    """Passwords given as flags leave the process list: this process starts again, with them in the environment instead.

    Same process id, same everything else. Returns when there was none.
    """
    secrets = {knob.flag: knob.variable for knob in knobs_of(settings) if knob.kind.secret}
    arguments, found = split_secrets(sys.orig_argv[1:], secrets)
    if not found:
        return
    environ = {name: text for name, text in os.environ.items() if name.upper() not in found}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *arguments], environ | found)  # noqa: S606 - this very program again


def split_secrets(arguments: Sequence[str], secrets: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without the flags in `secrets` (flag to variable), and the values of these by variable.

    The last value of a flag counts, as on the command line. An empty one hides nothing and stays.
    """
    kept: list[str] = []
    found: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, equals, text = argument.partition("=")
        variable = secrets.get("--" + flag[2:].replace("_", "-")) if flag.startswith("--") else None
        if variable is None:
            kept.append(argument)
            continue
        value = text if equals else next(rest, "")
        if value:
            found[variable] = value
        else:
            kept += [f"{flag}="]
    return kept, found
