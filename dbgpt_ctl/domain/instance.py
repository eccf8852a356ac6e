"""The facts of an instance, and how each command changes them. Pure: no I/O, time is an argument.

    InstanceKey, Registration   the values of a request; `fields` reads and checks them
    ModelInstance               the stored facts; its methods return the facts after a command
    DrainRequest                what an operator asks for with a drain: why, and for how long
    DrainFacts                  a drain: since when, by whom, why, until when
    ListedInstance              the facts with the state and the drain at the time of a list

Facts are stored, states never are (rule 2): a registry stores `ModelInstance` and derives the state when it is asked
for (see `lifecycle`). A drain is a fact beside the state: neither hides the other. All times are aware and in UTC.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


FUTURE_TOLERANCE = timedelta(seconds=5)
"""A stored heartbeat further ahead of the clock than this was written by a clock that was wrong (rule 7)."""


class InstanceState(StrEnum):
    """The state of an instance at a time, derived from its facts."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEREGISTERED = "deregistered"


HEALTHY = InstanceState.HEALTHY
"""For where every instance of a list passes: Python 3.11 makes a call to look a member up in its enumeration."""

DRAINED = "drained"
STATES = (*map(str, InstanceState), DRAINED)
"""Values of a filter by state: the states, and `drained` for every drained instance, whatever its state."""

SERVICE = "service"
"""The type of DB-GPT's own parts: no API server routes a request to them, and it finds control ports through them."""


class InstanceKey(NamedTuple):
    """The identity, compared exactly, without folding of case or accents (rule 1). Every list has its sort order."""

    model_name: str
    host: str
    """An IPv6 address is in brackets and in the form of `fields.canonical_host`."""
    port: int

    @property
    def name(self) -> str:
        """The part of `model_name` before the `@`."""
        return self.model_name.partition("@")[0]

    @property
    def type(self) -> str:
        """The part of `model_name` after the `@`: llm, text2vec, reranker, service ..."""
        return self.model_name.partition("@")[2]

    def __str__(self) -> str:
        """The reference `NAME@TYPE/HOST:PORT`, which the CLI prints and reads."""
        return f"{self.model_name}/{self.host}:{self.port}"


class Registration(NamedTuple):
    """The values that a worker sends with a register or a heartbeat, checked and stripped."""

    key: InstanceKey
    weight: float = 1.0
    check_healthy: bool = True
    enabled: bool = True
    prompt_template: str | None = None


class DrainRequest(NamedTuple):
    """What an operator asks for with a drain."""

    reason: str | None = None
    duration: timedelta | None = None
    """The length of the drain, by the registry's clock; None: until an undrain."""


class DrainFacts(NamedTuple):
    """A drain: the instance gets no requests, whatever its state is (rule 3)."""

    since: datetime | None = None
    """None where the first register of the instance had `enabled` false: no operator drained it."""
    by: str | None = None
    """The caller of the drain, as `Actor.caller`: `anna (10.0.0.3)`, without a token the address."""
    reason: str | None = None
    until: datetime | None = None
    """The first time, by the registry's clock, at which the drain is over; None: until an undrain."""


class ModelInstance(NamedTuple):
    """The stored facts of one instance. Immutable: each command makes a new object."""

    key: InstanceKey
    weight: float
    check_healthy: bool
    prompt_template: str | None
    registered_at: datetime
    last_heartbeat: datetime
    deregistered_at: datetime | None = None
    refused_at: datetime | None = None
    """The time of the last heartbeat that was refused because it came after a deregister."""
    drain: DrainFacts | None = None
    """The drain as it is stored; it may be over by now (see `drain_at`). None: not drained."""
    announced_state: InstanceState = InstanceState.HEALTHY
    """The state that the last event reported (see `events`): a fact of the registry's events, not of the instance."""
    flaps: int = 0
    """The number of its expiries since the first register, as far as events report them."""
    removed: bool = False
    """A tombstone: it is in no list, and only refuses late heartbeats."""

    @classmethod
    def first(cls, sent: Registration, now: datetime) -> ModelInstance:
        """The first register or heartbeat: all facts as sent (rule 5)."""
        return cls(
            sent.key,
            sent.weight,
            sent.check_healthy,
            sent.prompt_template,
            registered_at=now,
            last_heartbeat=now,
            drain=None if sent.enabled else DrainFacts(),
        )

    def registered(self, sent: Registration, now: datetime) -> ModelInstance:
        """A later register sets weight, prompt template and heartbeat. It revives; a drain survives it (rules 4, 5)."""
        if self.removed:
            return self.first(sent, now)
        return self._replace(
            weight=sent.weight,
            prompt_template=sent.prompt_template,
            last_heartbeat=self._later_heartbeat(now),
            deregistered_at=None,
            refused_at=None,
        )

    def with_heartbeat(self, now: datetime) -> ModelInstance:
        """A heartbeat changes only its own time; after a deregister only the time of the refusal (rules 4 and 5)."""
        if self.deregistered_at is not None:
            return self._replace(refused_at=now)
        return self._replace(last_heartbeat=self._later_heartbeat(now))

    def deregistered(self, now: datetime, *, remove: bool) -> ModelInstance:
        """A deregister, or with `remove` a removal that leaves a tombstone. Repeating it keeps the first time."""
        return self._replace(deregistered_at=self.deregistered_at or now, removed=self.removed or remove)

    def drained(self, now: datetime, *, by: str | None, reason: str | None, until: datetime | None) -> ModelInstance:
        """A drain: the instance gets no requests before `until`, or until `undrained` (rules 3 and 5).

        Repeating it replaces the end, keeps the begin, and keeps the reason if it gives none.
        """
        current = self.drain_at(now)
        if current is None:
            return self._replace(drain=DrainFacts(now, by, reason, until))
        if reason in (None, current.reason) and until == current.until:
            return self
        return self._replace(drain=DrainFacts(current.since, by, reason or current.reason, until))

    def undrained(self) -> ModelInstance:
        """The end of a drain."""
        return self if self.drain is None else self._replace(drain=None)

    def drain_at(self, now: datetime) -> DrainFacts | None:
        """The drain that holds at `now`; None if there is none, or if it is over."""
        drain = self.drain
        return None if drain is None or (drain.until is not None and drain.until <= now) else drain

    def _later_heartbeat(self, now: datetime) -> datetime:
        """The last heartbeat never moves backwards, unless a clock that was ahead wrote the stored one (rule 7)."""
        if self.last_heartbeat > now + FUTURE_TOLERANCE:
            return now
        return max(self.last_heartbeat, now)


class ListedInstance(NamedTuple):
    """An instance with its state and its drain at the time of the list."""

    instance: ModelInstance
    state: InstanceState
    drain: DrainFacts | None
    held: bool = False
    """It counts as healthy only because the registry itself was away: its own heartbeat is too old (rule 8)."""

    @property
    def key(self) -> InstanceKey:
        """Its identity."""
        return self.instance.key

    @property
    def is_healthy(self) -> bool:
        """`healthy` on the wire: the heartbeat is fresh and it is not deregistered, drained or not (rule 2)."""
        return self.state is HEALTHY

    @property
    def routable(self) -> bool:
        """Whether it gets requests: healthy and not drained (rule 3)."""
        return self.state is HEALTHY and self.drain is None


MODEL_TYPES = {
    "llm": "language models",
    "text2vec": "embeddings",
    "reranker": "rerankers",
    "service": "DB-GPT's own parts",
}
"""Each type and a short description. A registry accepts other types too."""
