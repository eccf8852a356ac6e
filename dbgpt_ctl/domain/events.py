"""What happened to instances: each change of state, who caused it and when. Pure: no I/O, time is an argument.

    Actor, Cause    who did it, by which verb, with which reason
    Change          one change of one instance, before a registry has numbered it
    Event           the same with its number
    settled         facts after a call -> the same facts as announced, and the changes to be told

A registry keeps, beside the facts of an instance, the state that it has told last (`ModelInstance.announced_state`). It
writes a change, its event and that state together, so of several controllers one tells it, once.
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
"""The state of what is in no list: never registered, or removed."""
EXPIRE = "expire"
"""The verb of no caller: a beat got too old."""


class ActorKind(StrEnum):
    """Who may change the state of an instance."""

    WORKER = "worker"
    OPERATOR = "operator"
    EXPIRY = "expiry"
    """Its silence."""
    HOUSEKEEPING = "housekeeping"
    """The registry removes what has long been gone."""


class Actor(NamedTuple):
    """`address`: where the call came from, as the controller saw it; None for what is no call."""

    kind: ActorKind
    address: str | None = None

    def __str__(self) -> str:
        return self.kind if self.address is None else f"{self.kind} {self.address}"


WORKER = Actor(ActorKind.WORKER)
OPERATOR = Actor(ActorKind.OPERATOR)
EXPIRY = Actor(ActorKind.EXPIRY)
HOUSEKEEPING = Actor(ActorKind.HOUSEKEEPING)


class Cause(NamedTuple):
    """`verb` is the registry's: register, heartbeat, deregister, drain, undrain, prune; or EXPIRE."""

    verb: str
    actor: Actor
    reason: str | None = None


EXPIRED = Cause(EXPIRE, EXPIRY)


@dataclass(frozen=True, slots=True)
class Change:
    """`old` and `new` are states, or ABSENT. They are the same when an operator drains what is unhealthy anyway."""

    time: datetime
    key: InstanceKey
    old: str
    new: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Event:
    """A change with its number: numbers of one registry rise by one, in the order in which the changes became true."""

    id: int
    change: Change


@dataclass(frozen=True, slots=True)
class EventPage:
    """An answer to `events`, in order of id.

    `stream` names the numbering: ids of another stream mean nothing in this one (a registry in memory that was started
    anew). `last_id` is that of the newest event there is, 0 for none. `missed`: some that were asked for are forgotten.
    """

    events: tuple[Event, ...]
    stream: str
    last_id: int
    missed: bool = False


def settled(
    before: ModelInstance | None, after: ModelInstance | None, state: InstanceState, now: datetime, cause: Cause
) -> tuple[ModelInstance | None, list[Change]]:
    """The facts `after` a call as announced, and what there is to tell of it, in order.

    `before` None: it was unknown; `after` None: it is forgotten. `state` is that of `after` at `now`, and does not
    matter for a tombstone. What expired before the call is the caller's to settle first, with `expired`.
    """
    if after is None:
        return None, _told(before, None, ABSENT, now, cause)
    new = ABSENT if after.removed else state
    announced = after if after.announced_state == state else replace(after, announced_state=state)
    return announced, _told(before, after, new, now, cause)


def expired(instance: ModelInstance, at: datetime) -> tuple[ModelInstance, Change]:
    """One that was announced as beating, and whose beat got too old at `at`."""
    change = Change(at, instance.key, instance.announced_state, InstanceState.UNHEALTHY, EXPIRED)
    return replace(instance, announced_state=InstanceState.UNHEALTHY, flaps=instance.flaps + 1), change


def is_overdue(instance: ModelInstance, state: InstanceState) -> bool:
    """Whether its expiry is still to be told; `state` is what it is now."""
    return state is InstanceState.UNHEALTHY and instance.announced_state in BEATING and not instance.removed


def _told(
    before: ModelInstance | None, after: ModelInstance | None, new: str, now: datetime, cause: Cause
) -> list[Change]:
    old = ABSENT if before is None or before.removed else before.announced_state
    switched = before is not None and after is not None and old != ABSENT and before.enabled != after.enabled
    key = after.key if after is not None else before.key if before is not None else None
    if key is None or (old == new and not switched):
        return []
    return [Change(now, key, old, new, cause)]
