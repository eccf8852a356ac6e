"""Events: each change of an instance's state or drain, with its cause and time.

    Actor, Cause   who made the change, by which verb, and why
    Change         one change of one instance, before a registry has numbered it
    Event          a change with its number
    EventFilter    which events a reader wants

`lifecycle.Evaluation` makes the changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey

ABSENT = "absent"
"""The state of an instance that is in no list: it was never registered, or it was removed."""
EXPIRE = "expire"
"""The verb of an expiry, which nobody calls: the last heartbeat got too old."""


class ActorKind(StrEnum):
    """The kinds of actors that change the state of an instance."""

    WORKER = "worker"
    OPERATOR = "operator"
    EXPIRY = "expiry"
    """Time itself: the worker is silent, or the time of a drain is over."""
    HOUSEKEEPING = "housekeeping"
    """The registry removes an instance that has long been gone."""


_KINDS = frozenset(ActorKind)


class Actor(NamedTuple):
    """The origin of a call. Everything is None where there was no call."""

    kind: ActorKind
    address: str | None = None
    """The address that the call came from, as the controller saw it."""
    name: str | None = None
    """The name of the token that came with the call, as the tokens file has it; None without a valid token."""

    @property
    def caller(self) -> str | None:
        """For people: `anna (10.0.0.3)`, or the one of name and address that is known; None where neither is."""
        if not self.name:
            return self.address or None
        return f"{self.name} ({self.address})" if self.address else self.name

    def __str__(self) -> str:
        """`operator anna (10.0.0.3)`."""
        caller = self.caller
        return self.kind if caller is None else f"{self.kind} {caller}"


WORKER = Actor(ActorKind.WORKER)
OPERATOR = Actor(ActorKind.OPERATOR)
EXPIRY = Actor(ActorKind.EXPIRY)
HOUSEKEEPING = Actor(ActorKind.HOUSEKEEPING)


class Cause(NamedTuple):
    """`verb` is one of the registry's (register, heartbeat, deregister, drain, undrain, prune) or EXPIRE. The actor of
    an `undrain` is EXPIRY when the time of the drain is over.
    """

    verb: str
    actor: Actor
    reason: str | None = None


EXPIRED = Cause(EXPIRE, EXPIRY)
DRAIN_ENDED = Cause("undrain", EXPIRY)
"""The time of a drain is over, and nobody called `undrain`."""


@dataclass(frozen=True, slots=True)
class Change:
    """`old` and `new` are states, or ABSENT. They are equal when a drain begins, changes or ends.

    `drained`: whether the instance is drained after the change.
    """

    time: datetime
    key: InstanceKey
    old: str
    new: str
    cause: Cause
    drained: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A change with its number: numbers of one registry rise by one, in the order of the changes."""

    id: int
    change: Change


class EventFilter(NamedTuple):
    """Selects the events that match every field that is given."""

    model_name: str | None = None
    """NAME@TYPE."""
    name: str | None = None
    type: str | None = None
    host: str | None = None
    port: int | None = None
    verb: str | None = None
    by: str | None = None
    """A kind of actor, or any other word: the name of the token that came with the call."""
    since: datetime | None = None
    until: datetime | None = None
    """Events before this time."""

    @classmethod
    def of(cls, key: InstanceKey) -> EventFilter:
        """The events of one instance."""
        return cls(key.model_name, host=key.host, port=key.port)

    @property
    def by_kind(self) -> bool:
        """Whether `by` is a kind of actor."""
        return self.by in _KINDS

    def matches(self, change: Change) -> bool:
        """Whether it selects the change. A scan calls this for each of 100,000 events: what is given is rare, and
        compared last.
        """
        model_name, name, model_type, host, port, verb, by, since, until = self
        key = change.key
        return (
            (model_name is None or key.model_name == model_name)
            and (name is None or key.model_name.partition("@")[0] == name)
            and (model_type is None or key.model_name.partition("@")[2] == model_type)
            and (host is None or key.host == host)
            and (port is None or key.port == port)
            and (verb is None or change.cause.verb == verb)
            and (by is None or by == (change.cause.actor.kind if self.by_kind else change.cause.actor.name))
            and (since is None or change.time >= since)
            and (until is None or change.time < until)
        )


EVERYTHING = EventFilter()


class EventQuery(NamedTuple):
    """The arguments of `events`."""

    after: int | None = None
    where: EventFilter = EVERYTHING
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class EventPage:
    """An answer to `events`, in order of id.

    `stream` names the numbering: an id of one stream has no meaning in another (as after the restart of a registry in
    memory). `last_id` is the id of the newest event, 0 without events. `missed`: some of the events after `after` are
    no longer stored. `next_after` is the `after` of the next page: all events up to it were looked at, and there are
    more where it is less than `last_id`.
    """

    events: tuple[Event, ...]
    stream: str
    last_id: int
    missed: bool = False
    next_after: int = 0
    complete_since: datetime | None = None
    """Of the events before this time some are no longer stored; None: all are."""
    operator_complete_since: datetime | None = None
    """The same of what operators did, which is kept longer."""
