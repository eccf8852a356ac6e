"""Passwords given as flags stay out of the process list."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dbgpt_ctl.settings.knob import knobs_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbgpt_ctl.settings.load import Settings


def hide_secrets(settings: Settings) -> None:
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
