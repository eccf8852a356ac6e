"""`ctl models heartbeat --every`: beats until Ctrl-C, as a worker does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.results import Outcome, ResultFormat, reference
from dbgpt_ctl.cli.output.stdout import json_text, print_lines, say
from dbgpt_ctl.errors import ControllerFailed, ControllerRefused, ControllerUnreachable, NotAllowed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.domain.instance import InstanceKey


def keep_beating(
    keys: Sequence[InstanceKey],
    beat: Callable[[InstanceKey], str],
    form: ResultFormat,
    *,
    every: float,
    quiet: bool = False,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    """Beats for all keys each `every` seconds, over outages too. Returns the exit code when all are refused.

    Ctrl-C ends it too, and NotAllowed, which it raises: waiting does not help there. After a late beat the following
    ones do not come in a rush. `quiet`: errors are told, that they are over is not.
    """
    beating = list(keys)
    down_since: float | None = None
    while beating:
        started = monotonic()
        try:
            beating = [key for key in beating if _beats(key, beat, form)]
        except (ControllerUnreachable, ControllerFailed) as error:
            if down_since is None:
                down_since = started
                say(f"{error}; trying again every {every:g}s")
        else:
            if down_since is not None and not quiet:
                say(f"the controller answers again, after {monotonic() - down_since:.0f}s")
            down_since = None
        if beating:
            sleep(max(0.0, started + every - monotonic()))
    return ControllerRefused.exit_code


def _beats(key: InstanceKey, beat: Callable[[InstanceKey], str], form: ResultFormat) -> bool:
    """False: it was refused, and will be again."""
    try:
        outcome = Outcome(key, beat(key))
    except NotAllowed:
        raise
    except ControllerRefused as error:
        say(f"{reference(key)}: {error}")
        return False
    if form is ResultFormat.TEXT:
        print_lines([f"{reference(key)} {outcome.result}"])
    elif form is ResultFormat.NAME:
        print_lines([reference(key)])
    else:
        print_lines([("- " if form is ResultFormat.YAML else "") + json_text(outcome.as_object())])
    return True
