"""A second, plain implementation of the rules for instances, with which every registry is compared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey, Registration

Verb = Literal["register", "register drained", "heartbeat", "deregister", "remove", "drain", "undrain"]
FULL = "full"


class Act(NamedTuple):
    """One call."""

    verb: Verb
    sent: Registration
    reason: str | None = None
    secs: float | None = None
    """How long a drain lasts; None: without an end."""


class ModelEvent(NamedTuple):
    """One event, without its number."""

    key: InstanceKey
    time: datetime
    old: str
    new: str
    verb: str
    actor: str
    reason: str | None = None
    drained: bool = False


@dataclass(frozen=True)
class ModelDrain:
    """One drain, without its caller."""

    since: datetime | None
    reason: str | None
    until: datetime | None


@dataclass
class Row:
    """The facts of one instance."""

    weight: float
    check: bool
    template: str | None
    heartbeat: datetime
    deregistered: datetime | None = None
    removed: bool = False
    last_refusal: datetime | None = None
    drain: ModelDrain | None = None
    announced: str = "absent"
    flaps: int = 0


class PlainModel:
    """Rules 2 to 5 and 7 and the limit, on a dictionary."""

    def __init__(self, timeout: timedelta, most: int) -> None:
        self.timeout = timeout
        self.most = most
        self.rows: dict[InstanceKey, Row] = {}
        self.events: list[ModelEvent] = []
        self.ended_drains = 0

    def do(self, act: Act, now: datetime) -> object:
        """The answer: None or a boolean, or FULL."""
        key = act.sent.key
        if key in self.rows and self.forgotten(self.rows[key], now):
            del self.rows[key]
        if key in self.rows:
            self.announce_time(key, now)
        drain = self.rows[key].drain if key in self.rows else None
        answer = self.answer(act, self.rows.get(key), now)
        if key in self.rows:
            self.announce(act, self.rows[key], now, drain)
        return answer

    def answer(self, act: Act, row: Row | None, now: datetime) -> object:
        if act.verb in {"deregister", "remove"}:
            return self.deregister(row, now, removed=act.verb == "remove")
        if act.verb in {"drain", "undrain"}:
            return self.drain_or_undrain(row, act, now)
        if row is None and not self.has_capacity(now):
            return FULL
        if act.verb == "register drained":
            self.answer(act._replace(verb="register", sent=act.sent._replace(enabled=True)), row, now)
            return self.drain_or_undrain(self.rows[act.sent.key], act, now)
        if row is None or (row.removed and act.verb == "register"):
            sent = act.sent
            drain = None if sent.enabled else ModelDrain(None, None, None)
            self.rows[sent.key] = Row(sent.weight, sent.check_healthy, sent.prompt_template, now, drain=drain)
            return None if act.verb == "register" else True
        return self.heartbeat_or_register(row, act, now)

    def drain_or_undrain(self, row: Row | None, act: Act, now: datetime) -> bool:
        if row is None or row.removed:
            return False
        if act.verb == "undrain":
            row.drain = None
            return True
        before = row.drain or ModelDrain(now, None, None)
        until = None if act.secs is None else now + timedelta(seconds=act.secs)
        row.drain = ModelDrain(before.since, act.reason or before.reason, until)
        return True

    def announce_time(self, key: InstanceKey, now: datetime) -> None:
        """Announces the expiry of an instance that was announced as alive, and whose heartbeat is too old, and the end
        of its drain, whichever came first.
        """
        row = self.rows[key]
        expired_at = row.heartbeat + self.timeout
        expires = row.announced == "healthy" and self.state(row, now) == "unhealthy"
        if row.removed:
            return
        if expires and self.is_over(row, expired_at):
            self.end_drain(key, row)
        if expires:
            drained = row.drain is not None
            self.events.append(ModelEvent(key, expired_at, "healthy", "unhealthy", "expire", "expiry", None, drained))
            row.announced, row.flaps = "unhealthy", row.flaps + 1
        if self.is_over(row, now):
            self.end_drain(key, row)

    def is_over(self, row: Row, at: datetime) -> bool:
        return row.drain is not None and row.drain.until is not None and row.drain.until <= at

    def end_drain(self, key: InstanceKey, row: Row) -> None:
        assert row.drain is not None
        assert row.drain.until is not None
        self.events.append(ModelEvent(key, row.drain.until, row.announced, row.announced, "undrain", "expiry"))
        row.drain = None
        self.ended_drains += 1

    def announce(self, act: Act, row: Row, now: datetime, drain: ModelDrain | None) -> None:
        """Announces the change that a call made."""
        new = "absent" if row.removed else self.state(row, now)
        if new != row.announced or (new != "absent" and row.drain != drain):
            verb = {"remove": "deregister", "register drained": "register"}.get(act.verb, act.verb)
            actor = "operator" if "drain" in act.verb else "worker"
            reason = act.reason if act.verb in {"drain", "register drained"} else None
            drained = new != "absent" and row.drain is not None
            self.events.append(ModelEvent(act.sent.key, now, row.announced, new, verb, actor, reason, drained))
        row.announced = new

    def prune(self, older_than: timedelta, now: datetime, *, unchecked: bool) -> list[InstanceKey]:
        """The identities of what it removes, in order."""
        gone = [
            key for key, row in sorted(self.rows.items()) if self.is_gone(row, older_than, now, unchecked=unchecked)
        ]
        for key in gone:
            self.announce_time(key, now)
            self.events.append(ModelEvent(key, now, self.rows[key].announced, "absent", "prune", "operator"))
            del self.rows[key]
        return gone

    def is_gone(self, row: Row, older_than: timedelta, now: datetime, *, unchecked: bool) -> bool:
        if row.removed or self.drain(row, now) is not None:
            return False
        if row.deregistered is not None:
            return (row.last_refusal or row.deregistered) + older_than < now
        return (row.check or unchecked) and row.heartbeat + max(older_than, self.timeout) < now

    def pass_time(self, now: datetime) -> None:
        """Announces the expiries and the ends of drains of all instances."""
        for key in self.rows:
            self.announce_time(key, now)

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
        """Of each instance in a list: weight, check, template, beat, drain, state."""
        return {
            key: (row.weight, row.check, row.template, row.heartbeat, self.drain(row, now), self.state(row, now))
            for key, row in sorted(self.rows.items())
            if not row.removed
        }

    def state(self, row: Row, now: datetime) -> str:
        if row.deregistered is not None:
            return "deregistered"
        if row.check and row.heartbeat + self.timeout < now:
            return "unhealthy"
        return "healthy"

    def drain(self, row: Row, now: datetime) -> ModelDrain | None:
        return None if self.is_over(row, now) else row.drain

    def forgotten(self, row: Row, now: datetime) -> bool:
        """Whether it is a tombstone that is not needed any more."""
        if not row.removed or row.deregistered is None:
            return False
        return max(row.deregistered, row.last_refusal or row.deregistered) + self.timeout < now

    def has_capacity(self, now: datetime) -> bool:
        return sum(not self.forgotten(row, now) for row in self.rows.values()) < self.most
