"""The rules of an instance's life once more, as plainly as can be: what every registry is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.instance import InstanceKey, Registration

Verb = Literal["register", "heartbeat", "deregister", "remove"]
FULL = "full"


class Act(NamedTuple):
    """One call."""

    verb: Verb
    sent: Registration


@dataclass
class Row:
    """What is known of one instance."""

    weight: float
    check: bool
    enabled: bool
    template: str | None
    beat: datetime
    left: datetime | None = None
    removed: bool = False
    last_refusal: datetime | None = None


class PlainModel:
    """Rules 2 to 5 and 7 and the limit, on a dictionary."""

    def __init__(self, timeout: timedelta, most: int) -> None:
        self.timeout = timeout
        self.most = most
        self.rows: dict[InstanceKey, Row] = {}

    def do(self, act: Act, now: datetime) -> object:
        """The answer: None or a boolean, or FULL."""
        key = act.sent.key
        if key in self.rows and self.expired(self.rows[key], now):
            del self.rows[key]
        row = self.rows.get(key)
        if act.verb in {"deregister", "remove"}:
            return self.leave(row, now, removed=act.verb == "remove")
        if row is None and not self.has_room(now):
            return FULL
        if row is None or (row.removed and act.verb == "register"):
            sent = act.sent
            self.rows[key] = Row(sent.weight, sent.check_healthy, sent.enabled, sent.prompt_template, now)
            return None if act.verb == "register" else True
        return self.come_again(row, act, now)

    def leave(self, row: Row | None, now: datetime, *, removed: bool) -> bool:
        if row is None:
            return False
        row.left = row.left or now
        row.removed = row.removed or removed
        return True

    def come_again(self, row: Row, act: Act, now: datetime) -> object:
        if act.verb == "heartbeat" and row.left is not None:
            row.last_refusal = now
            return False
        if not timedelta(0) < row.beat - now <= timedelta(seconds=5):
            row.beat = now
        if act.verb == "heartbeat":
            return True
        row.weight, row.template, row.left, row.last_refusal = act.sent.weight, act.sent.prompt_template, None, None
        return None

    def listed(self, now: datetime) -> dict[InstanceKey, tuple[object, ...]]:
        """Of each instance in a list: weight, check, enabled, template, beat, state."""
        return {
            key: (row.weight, row.check, row.enabled, row.template, row.beat, self.state(row, now))
            for key, row in sorted(self.rows.items())
            if not row.removed
        }

    def state(self, row: Row, now: datetime) -> str:
        if row.left is not None:
            return "deregistered"
        if row.check and row.beat + self.timeout < now:
            return "unhealthy"
        return "healthy" if row.enabled else "drained"

    def expired(self, row: Row, now: datetime) -> bool:
        """Whether a tombstone need not be kept any more."""
        if not row.removed or row.left is None:
            return False
        return max(row.left, row.last_refusal or row.left) + self.timeout < now

    def has_room(self, now: datetime) -> bool:
        return sum(not self.expired(row, now) for row in self.rows.values()) < self.most
