"""Events: each change of an instance's state, with its cause and time. Pure: no I/O, time is an argument.

    Actor, Cause       who made the change, by which verb, and why
    Change             one change of one instance, before a registry has numbered it
    Event              a change with its number
    announce_command   the changes that a command makes, and the facts with the new announced state
    announce_expiry    the change that the silence of a worker makes, and the facts with the new announced state

Beside the facts of an instance, a registry stores the state that the last event reported
(`ModelInstance.announced_state`). It stores a change, its event and that state together: of several controllers exactly
one writes the event, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import BEATING, InstanceState

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance

ABSENT = "absent"
"""The state of an instance that is in no list: it was never registered, or it was removed."""
EXPIRE = "expire"
"""The verb of an expiry, which nobody calls: the last heartbeat got too old."""


class ActorKind(StrEnum):
    """The kinds of actors that change the state of an instance."""

    WORKER = "worker"
    OPERATOR = "operator"
    EXPIRY = "expiry"
    """The worker is silent."""
    HOUSEKEEPING = "housekeeping"
    """The registry removes an instance that has long been gone."""


class Actor(NamedTuple):
    """`address`: the origin of the call as the controller saw it; None where there was no call."""

    kind: ActorKind
    address: str | None = None

    def __str__(self) -> str:
        return self.kind if self.address is None else f"{self.kind} {self.address}"


WORKER = Actor(ActorKind.WORKER)
OPERATOR = Actor(ActorKind.OPERATOR)
EXPIRY = Actor(ActorKind.EXPIRY)
HOUSEKEEPING = Actor(ActorKind.HOUSEKEEPING)


class Cause(NamedTuple):
    """`verb` is one of the registry's (register, heartbeat, deregister, drain, undrain, prune) or EXPIRE."""

    verb: str
    actor: Actor
    reason: str | None = None


EXPIRED = Cause(EXPIRE, EXPIRY)


@dataclass(frozen=True, slots=True)
class Change:
    """`old` and `new` are states, or ABSENT. They are equal when a drain begins or ends while the instance is unhealthy
    or deregistered.
    """

    time: datetime
    key: InstanceKey
    old: str
    new: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Event:
    """A change with its number: numbers of one registry rise by one, in the order of the changes."""

    id: int
    change: Change


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


def announce_command(
    before: ModelInstance | None, after: ModelInstance | None, state: InstanceState, now: datetime, cause: Cause
) -> tuple[ModelInstance | None, list[Change]]:
    """The facts `after` a command with their announced state, and the changes to store as events, in order.

    `before` None: the instance was unknown; `after` None: it is forgotten. `state` is that of `after` at `now`, and has
    no meaning for a tombstone. The caller announces an expiry before the command first, with `announce_expiry`.
    """
    if after is None:
        return None, _changes(before, None, ABSENT, now, cause)
    new = ABSENT if after.removed else state
    announced = after if after.announced_state == state else replace(after, announced_state=state)
    return announced, _changes(before, after, new, now, cause)


def announce_expiry(instance: ModelInstance, at: datetime) -> tuple[ModelInstance, Change]:
    """The facts of an instance whose last heartbeat got too old at `at`, and the change to store as an event."""
    change = Change(at, instance.key, instance.announced_state, InstanceState.UNHEALTHY, EXPIRED)
    return replace(instance, announced_state=InstanceState.UNHEALTHY, flaps=instance.flaps + 1), change


def is_expiry_unannounced(instance: ModelInstance, state: InstanceState) -> bool:
    """Whether the instance has expired and no event reports it yet; `state` is its state now."""
    return state is InstanceState.UNHEALTHY and instance.announced_state in BEATING and not instance.removed


def _changes(
    before: ModelInstance | None, after: ModelInstance | None, new: str, now: datetime, cause: Cause
) -> list[Change]:
    old = ABSENT if before is None or before.removed else before.announced_state
    switched = before is not None and after is not None and old != ABSENT and before.enabled != after.enabled
    key = after.key if after is not None else before.key if before is not None else None
    if key is None or (old == new and not switched):
        return []
    return [Change(now, key, old, new, cause)]
