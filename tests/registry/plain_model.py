"""The rules of an instance's life once more, as plainly as can be: what every registry is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey, Registration

Verb = Literal["register", "heartbeat", "deregister", "remove", "drain", "undrain"]
FULL = "full"


class Act(NamedTuple):
    """One call."""

    verb: Verb
    sent: Registration
    reason: str | None = None


class Told(NamedTuple):
    """One event, but for its number."""

    key: InstanceKey
    time: datetime
    old: str
    new: str
    verb: str
    actor: str
    reason: str | None = None


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
    drained_at: datetime | None = None
    reason: str | None = None
    told: str = "absent"
    flaps: int = 0


class PlainModel:
    """Rules 2 to 5 and 7 and the limit, on a dictionary."""

    def __init__(self, timeout: timedelta, most: int) -> None:
        self.timeout = timeout
        self.most = most
        self.rows: dict[InstanceKey, Row] = {}
        self.events: list[Told] = []

    def do(self, act: Act, now: datetime) -> object:
        """The answer: None or a boolean, or FULL."""
        key = act.sent.key
        if key in self.rows and self.expired(self.rows[key], now):
            del self.rows[key]
        if key in self.rows:
            self.tell_silence(key, now)
        enabled = self.rows[key].enabled if key in self.rows else True
        answer = self.answer(act, self.rows.get(key), now)
        if key in self.rows:
            self.tell(act, self.rows[key], now, enabled=enabled)
        return answer

    def answer(self, act: Act, row: Row | None, now: datetime) -> object:
        if act.verb in {"deregister", "remove"}:
            return self.leave(row, now, removed=act.verb == "remove")
        if act.verb in {"drain", "undrain"}:
            return self.switch(row, act, now)
        if row is None and not self.has_room(now):
            return FULL
        if row is None or (row.removed and act.verb == "register"):
            sent = act.sent
            self.rows[sent.key] = Row(sent.weight, sent.check_healthy, sent.enabled, sent.prompt_template, now)
            return None if act.verb == "register" else True
        return self.come_again(row, act, now)

    def switch(self, row: Row | None, act: Act, now: datetime) -> bool:
        if row is None or row.removed:
            return False
        if act.verb == "undrain":
            row.enabled, row.drained_at, row.reason = True, None, None
            return True
        if row.enabled:
            row.enabled, row.drained_at, row.reason = False, now, act.reason
        elif act.reason is not None:
            row.reason = act.reason
        return True

    def tell_silence(self, key: InstanceKey, now: datetime) -> None:
        """An instance that was told to beat, and has been silent for too long."""
        row = self.rows[key]
        if row.told in {"healthy", "drained"} and self.state(row, now) == "unhealthy":
            self.events.append(Told(key, row.beat + self.timeout, row.told, "unhealthy", "expire", "expiry"))
            row.told, row.flaps = "unhealthy", row.flaps + 1

    def tell(self, act: Act, row: Row, now: datetime, *, enabled: bool) -> None:
        """What a call changed."""
        new = "absent" if row.removed else self.state(row, now)
        if new != row.told or (new != "absent" and row.enabled != enabled):
            verb = "deregister" if act.verb == "remove" else act.verb
            actor = "operator" if "drain" in verb else "worker"
            reason = act.reason if verb == "drain" else None
            self.events.append(Told(act.sent.key, now, row.told, new, verb, actor, reason))
        row.told = new

    def pass_time(self, now: datetime) -> None:
        """Everybody's silence is told."""
        for key in self.rows:
            self.tell_silence(key, now)

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
