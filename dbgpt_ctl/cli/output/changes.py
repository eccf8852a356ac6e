"""Changes of state and of drains as lines and table rows, and outages as rows. Text from unknown clients is escaped."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.instances import STATE_COLOURS
from dbgpt_ctl.cli.output.table import GAP, Column, coloured
from dbgpt_ctl.domain.events import ABSENT, EXPIRE
from dbgpt_ctl.domain.instance import DRAINED, InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.domain.texts import FLAP_WINDOW, cause_text, change_text
from dbgpt_ctl.text.times import utc_text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.domain.registry_outage import Hold


UNAVAILABLE = "unavailable"
"""Of the registry, not of an instance."""
CHANGE_COLOURS = {
    UNAVAILABLE: "red",
    DRAINED: "yellow",
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


def outage_row(hold: Hold, now: datetime) -> list[str]:
    """The cells of `changes.COLUMNS`."""
    are = "were" if hold.until <= now else "are"
    until = f"until {utc_text(hold.back_at)}; states {are} held until {utc_text(hold.until)}"
    return [utc_text(hold.gone_at), "registry", UNAVAILABLE, until]
