"""States and changes of instances in words, on one line. Text from unknown clients is escaped."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import DRAIN_ENDED, EXPIRE
from dbgpt_ctl.domain.instance import DRAINED
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import Change

AS_LAST_KNOWN = ", as last known"
"""Ends a sentence about instances that rests on a stale list."""
FLAP_WINDOW = timedelta(minutes=10)
UNDRAINED = "undrained"
_ORDINALS = {1: "st", 2: "nd", 3: "rd"}
_TEENS = range(11, 14)


def state_label(state: str, *, drained: bool, held: bool = False) -> str:
    """`unhealthy`, or `unhealthy,drained`: a drain stands beside the state. `healthy,held` is so by a hold only."""
    return state + ",drained" * drained + ",held" * held


def drained_text(count: int) -> str:
    """What stands behind a number of instances of which so many are drained: ` (2 drained)`."""
    return f" ({count} drained)" if count else ""


def change_text(change: Change) -> str:
    """`healthy -> unhealthy`, with `,drained` if it is drained then; `drained`, `undrained` where only that changes."""
    old, new = escaped(change.old), escaped(change.new)
    if old == new:
        return DRAINED if change.drained else UNDRAINED
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
