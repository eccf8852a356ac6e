"""Changes of state and of drains as lines and table rows. Text from unknown clients is escaped."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.instances import STATE_COLOURS, state_label, utc_text
from dbgpt_ctl.cli.output.table import GAP, Column, coloured
from dbgpt_ctl.cli.parsing.references import reference_of
from dbgpt_ctl.domain.events import ABSENT, DRAIN_ENDED, EXPIRE
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey

FLAP_WINDOW = timedelta(minutes=10)

_DRAINED, _UNDRAINED = "drained", "undrained"
UNAVAILABLE = "unavailable"
"""Of the registry, not of an instance."""
CHANGE_COLOURS = {
    UNAVAILABLE: "red",
    _DRAINED: "yellow",
    **{f"{old} -> {new}": colour for old in (*InstanceState, ABSENT) for new, colour in STATE_COLOURS.items()},
}
"""A change has the colour of the state after it."""
COLUMNS = (
    Column("TIME", folds=False),
    Column("INSTANCE"),
    Column("CHANGE", colours=CHANGE_COLOURS, folds=False),
    Column("CAUSE"),
)
_CHANGE_WIDTH = len("healthy -> deregistered")
_ORDINALS = {1: "st", 2: "nd", 3: "rd"}
_TEENS = range(11, 14)


class Flaps:
    """Counts how often each instance expired within a window, among the changes that it was given."""

    def __init__(self, window: timedelta = FLAP_WINDOW) -> None:
        self._window = window
        self._times: dict[InstanceKey, deque[datetime]] = {}

    def add(self, change: Change) -> int:
        """How many times the instance expired within the window, with this change; 0 for other causes."""
        if change.cause.verb != EXPIRE:
            return 0
        times = self._times.setdefault(change.key, deque())
        times.append(change.time)
        while times[0] < change.time - self._window:
            times.popleft()
        return len(times)


def row_of(change: Change, flaps: int) -> list[str]:
    """The cells of COLUMNS."""
    return [utc_text(change.time), reference_of(change.key), change_text(change), cause_text(change, flaps)]


def line_of(change: Change, flaps: int, *, colour: bool) -> str:
    """The same as one line, for changes that are printed one by one."""
    text = change_text(change)
    padding = " " * max(0, _CHANGE_WIDTH - len(text))
    shown = f"{coloured(text, CHANGE_COLOURS.get(text)) if colour else text}{padding}"
    return GAP.join([utc_text(change.time), reference_of(change.key), shown, cause_text(change, flaps)]).rstrip()


def change_text(change: Change) -> str:
    """`healthy -> unhealthy`, with `,drained` if it is drained then; `drained`, `undrained` where only that changes."""
    old, new = escaped(change.old), escaped(change.new)
    if old == new:
        return _DRAINED if change.drained else _UNDRAINED
    return f"{old} -> {state_label(new, drained=change.drained)}"


def cause_text(change: Change, flaps: int = 0) -> str:
    """`drain by operator anna (10.0.0.9): new driver`, `expire (3rd time in 10m)`; empty where the cause is unknown."""
    verb, actor, reason = change.cause
    if not verb:
        return ""
    if change.cause == DRAIN_ENDED:
        return "its time was over"
    by = "" if verb == EXPIRE else f" by {escaped(str(actor))}"
    again = f" ({ordinal(flaps)} time in {FLAP_WINDOW.seconds // 60}m)" if flaps > 1 else ""
    return f"{escaped(verb)}{by}{f': {escaped(reason)}' if reason else ''}{again}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`."""
    return f"{number}{'th' if number % 100 in _TEENS else _ORDINALS.get(number % 10, 'th')}"
