"""A second, plain implementation of the rules for instances, with which every registry is compared."""

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


class ModelEvent(NamedTuple):
    """One event, without its number."""

    key: InstanceKey
    time: datetime
    old: str
    new: str
    verb: str
    actor: str
    reason: str | None = None


@dataclass
class Row:
    """The facts of one instance."""

    weight: float
    check: bool
    enabled: bool
    template: str | None
    heartbeat: datetime
    deregistered: datetime | None = None
    removed: bool = False
    last_refusal: datetime | None = None
    drained_at: datetime | None = None
    reason: str | None = None
    announced: str = "absent"
    flaps: int = 0


class PlainModel:
    """Rules 2 to 5 and 7 and the limit, on a dictionary."""

    def __init__(self, timeout: timedelta, most: int) -> None:
        self.timeout = timeout
        self.most = most
        self.rows: dict[InstanceKey, Row] = {}
        self.events: list[ModelEvent] = []

    def do(self, act: Act, now: datetime) -> object:
        """The answer: None or a boolean, or FULL."""
        key = act.sent.key
        if key in self.rows and self.forgotten(self.rows[key], now):
            del self.rows[key]
        if key in self.rows:
            self.announce_expiry(key, now)
        enabled = self.rows[key].enabled if key in self.rows else True
        answer = self.answer(act, self.rows.get(key), now)
        if key in self.rows:
            self.announce(act, self.rows[key], now, enabled=enabled)
        return answer

    def answer(self, act: Act, row: Row | None, now: datetime) -> object:
        if act.verb in {"deregister", "remove"}:
            return self.deregister(row, now, removed=act.verb == "remove")
        if act.verb in {"drain", "undrain"}:
            return self.drain_or_undrain(row, act, now)
        if row is None and not self.has_capacity(now):
            return FULL
        if row is None or (row.removed and act.verb == "register"):
            sent = act.sent
            self.rows[sent.key] = Row(sent.weight, sent.check_healthy, sent.enabled, sent.prompt_template, now)
            return None if act.verb == "register" else True
        return self.heartbeat_or_register(row, act, now)

    def drain_or_undrain(self, row: Row | None, act: Act, now: datetime) -> bool:
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

    def announce_expiry(self, key: InstanceKey, now: datetime) -> None:
        """Announces the expiry of an instance that was announced as alive, and whose heartbeat is too old."""
        row = self.rows[key]
        if row.announced in {"healthy", "drained"} and self.state(row, now) == "unhealthy":
            self.events.append(
                ModelEvent(key, row.heartbeat + self.timeout, row.announced, "unhealthy", "expire", "expiry")
            )
            row.announced, row.flaps = "unhealthy", row.flaps + 1

    def announce(self, act: Act, row: Row, now: datetime, *, enabled: bool) -> None:
        """Announces the change that a call made."""
        new = "absent" if row.removed else self.state(row, now)
        if new != row.announced or (new != "absent" and row.enabled != enabled):
            verb = "deregister" if act.verb == "remove" else act.verb
            actor = "operator" if "drain" in verb else "worker"
            reason = act.reason if verb == "drain" else None
            self.events.append(ModelEvent(act.sent.key, now, row.announced, new, verb, actor, reason))
        row.announced = new

    def pass_time(self, now: datetime) -> None:
        """Announces the expiry of all instances."""
        for key in self.rows:
            self.announce_expiry(key, now)

    def deregister(self, row: Row | None, now: datetime, *, removed: bool) -> bool:
        if row is None:
            return False
        row.deregistered = row.deregistered or now
        row.removed = row.removed or removed
        return True

    def heartbeat_or_register(self, row: Row, act: Act, now: datetime) -> object:
        if act.verb == "heartbeat" and row.deregistered is not None:
            row.last_refusal = now
            return False
        if not timedelta(0) < row.heartbeat - now <= timedelta(seconds=5):
            row.heartbeat = now
        if act.verb == "heartbeat":
            return True
        row.weight, row.template, row.deregistered, row.last_refusal = (
            act.sent.weight,
            act.sent.prompt_template,
            None,
            None,
        )
        return None

    def listed(self, now: datetime) -> dict[InstanceKey, tuple[object, ...]]:
        """Of each instance in a list: weight, check, enabled, template, beat, state."""
        return {
            key: (row.weight, row.check, row.enabled, row.template, row.heartbeat, self.state(row, now))
            for key, row in sorted(self.rows.items())
            if not row.removed
        }

    def state(self, row: Row, now: datetime) -> str:
        if row.deregistered is not None:
            return "deregistered"
        if row.check and row.heartbeat + self.timeout < now:
            return "unhealthy"
        return "healthy" if row.enabled else "drained"

    def forgotten(self, row: Row, now: datetime) -> bool:
        """Whether it is a tombstone that is not needed any more."""
        if not row.removed or row.deregistered is None:
            return False
        return max(row.deregistered, row.last_refusal or row.deregistered) + self.timeout < now

    def has_capacity(self, now: datetime) -> bool:
        return sum(not self.forgotten(row, now) for row in self.rows.values()) < self.most
