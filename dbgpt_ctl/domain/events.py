"""Events: each change of an instance's state or drain, with its cause and time.

    Actor, Cause   who made the change, by which verb, and why
    Change         one change of one instance, before a registry has numbered it
    Event          a change with its number

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


class EventQuery(NamedTuple):
    """The arguments of `events`."""

    after: int | None = None
    since: datetime | None = None
    key: InstanceKey | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class EventPage:
    """An answer to `events`, in order of id.

    `stream` names the numbering: an id of one stream has no meaning in another (as after the restart of a registry in
    memory). `last_id` is the id of the newest event, 0 without events. `missed`: some of the requested events are
    no longer stored.
    """

    events: tuple[Event, ...]
    stream: str
    last_id: int
    missed: bool = False
