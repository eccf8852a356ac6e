"""The life cycle of an instance: its states at a time (rule 2), derived from its facts, and the commands on it.

Pure, without I/O: `now` is the time, `timeout` is the heartbeat timeout, and `hold` is the time after an outage of the
registry in which states are held (rule 8; see `registry_outage`).

A command is one class. `key` is the instance that it changes, `cause` is what an event about it reports. `apply` takes
the stored facts (None: no such instance) and the time; it returns the new facts (None: nothing to store) and the answer
to the caller. Every registry that applies the rules itself uses these: the embedded one command by command, a database
in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import ABSENT, DRAIN_ENDED, EXPIRED, OPERATOR, WORKER, Actor, Cause, Change
from dbgpt_ctl.domain.instance import HEALTHY, DrainRequest, InstanceState, ListedInstance, ModelInstance

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.instance import InstanceKey, Registration
    from dbgpt_ctl.domain.registry_outage import Hold, Pulse

Result = tuple[ModelInstance | None, bool]
"""The new facts and the answer."""


class _Command:
    """What all commands have. The name of a class is its verb."""

    __slots__ = ()
    actor: Actor
    reason: str | None = None

    @property
    def returns_instance(self) -> bool:
        """Whether the caller gets the instance as it is afterwards instead of the answer."""
        return False

    @property
    def cause(self) -> Cause:
        return Cause(type(self).__name__.lower(), self.actor, self.reason)


@dataclass(frozen=True, slots=True)
class Register(_Command):
    """A register, which drains too if it has a `drain`; its answer is True."""

    sent: Registration
    actor: Actor = WORKER
    drain: DrainRequest | None = None

    @property
    def key(self) -> InstanceKey:
        return self.sent.key

    @property
    def cause(self) -> Cause:
        return Cause("register", self.actor, self.drain and self.drain.reason)

    @property
    def returns_instance(self) -> bool:
        return self.drain is not None

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        # `enabled` False would make a second drain, without a begin, which `drain` would only change.
        sent = self.sent if self.drain is None else self.sent._replace(enabled=True)
        after = ModelInstance.first(sent, now) if stored is None else stored.registered(sent, now)
        return (after if self.drain is None else _drained(after, now, self.drain, self.actor)), True


@dataclass(frozen=True, slots=True)
class Heartbeat(_Command):
    """A heartbeat; its answer is False when it is refused, because it is late: it comes after a deregister (rule 4)."""

    sent: Registration
    actor: Actor = WORKER

    @property
    def key(self) -> InstanceKey:
        return self.sent.key

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        after = ModelInstance.first(self.sent, now) if stored is None else stored.with_heartbeat(now)
        return after, after.deregistered_at is None


@dataclass(frozen=True, slots=True)
class Deregister(_Command):
    """A deregister; its answer is False when there never was such an instance."""

    key: InstanceKey
    remove: bool = False
    actor: Actor = WORKER

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        return (None, False) if stored is None else (stored.deregistered(now, remove=self.remove), True)


@dataclass(frozen=True, slots=True)
class Drain(_Command):
    """A drain for `duration`, or until an undrain; its answer is False when the instance is in no list."""

    key: InstanceKey
    reason: str | None = None
    actor: Actor = OPERATOR
    duration: timedelta | None = None

    @property
    def returns_instance(self) -> bool:
        return True

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        if stored is None or stored.removed:
            return None, False
        return _drained(stored, now, DrainRequest(self.reason, self.duration), self.actor), True


@dataclass(frozen=True, slots=True)
class Undrain(_Command):
    """The end of a drain; its answer is False when the instance is in no list."""

    key: InstanceKey
    actor: Actor = OPERATOR

    @property
    def returns_instance(self) -> bool:
        return True

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:  # noqa: ARG002 - as in the others
        return (None, False) if stored is None or stored.removed else (stored.undrained(), True)


def _drained(instance: ModelInstance, now: datetime, wanted: DrainRequest, actor: Actor) -> ModelInstance:
    until = None if wanted.duration is None else now + wanted.duration
    return instance.drained(now, by=actor.caller, reason=wanted.reason, until=until)


Command = Register | Heartbeat | Deregister | Drain | Undrain
_DRAIN_VERBS = frozenset({"drain", "undrain"})
"""They change no state."""


def state_of(instance: ModelInstance, now: datetime, timeout: timedelta, hold: Hold | None = None) -> InstanceState:
    """The state at `now`. A heartbeat exactly `timeout` old is still fresh; without `check_healthy` none gets old."""
    if instance.deregistered_at is not None:
        return InstanceState.DEREGISTERED
    if instance.check_healthy:
        heartbeat = instance.last_heartbeat
        if (now if hold is None else hold.time_for(heartbeat, now)) - heartbeat > timeout:
            return InstanceState.UNHEALTHY
    return HEALTHY


def listed(instance: ModelInstance, now: datetime, timeout: timedelta, hold: Hold | None = None) -> ListedInstance:
    """The instance with its state and its drain at `now`."""
    state = state_of(instance, now, timeout, hold)
    drain = instance.drain and instance.drain_at(now)
    if hold is None:
        return ListedInstance(instance, state, drain)
    held = state is HEALTHY and state_of(instance, now, timeout) is not state
    return ListedInstance(instance, state, drain, held)


def may_expire(instance: ModelInstance) -> bool:
    """Whether silence alone can change its announced state."""
    return instance.check_healthy and instance.announced_state is HEALTHY and instance.deregistered_at is None


def is_long_gone(instance: ModelInstance, before: datetime, now: datetime) -> bool:
    """Whether it was unhealthy or deregistered before that time, without any call from it since.

    Never an instance that is drained: to remove it would undo the drain.
    """
    drained = instance.drain_at(now) is not None
    if instance.deregistered_at is not None:
        last_call = instance.refused_at or instance.deregistered_at
        return last_call < before and (not drained or instance.removed)
    return instance.last_heartbeat < before and instance.check_healthy and not drained


def tombstone_since(instance: ModelInstance) -> datetime | None:
    """The time of the removal or of the last refused heartbeat after it; None for what is no tombstone."""
    if not instance.removed or instance.deregistered_at is None:
        return None
    return max(instance.deregistered_at, instance.refused_at or instance.deregistered_at)


def is_forgotten(instance: ModelInstance, now: datetime, timeout: timedelta, hold: Hold | None = None) -> bool:
    """Whether it is a tombstone that is not needed any more: one timeout has passed since it refused a heartbeat last
    (rule 4). A tombstone is held too: nobody could refuse a late heartbeat while the registry was away.
    """
    since = tombstone_since(instance)
    if since is None:
        return False
    return (now if hold is None or since >= hold.back_at else hold.gone_at) - since > timeout


class Evaluation:
    """The evaluation of stored facts at one time: states, held ones too if there is a pulse, and changes to announce.

    Beside the facts of an instance, a registry stores the state that the last event reported
    (`ModelInstance.announced_state`). It stores a change, its event and that state together: of several controllers
    exactly one writes the event, once.
    """

    def __init__(self, now: datetime, pulse: Pulse | None, timeout: timedelta) -> None:
        self.now = now
        self.hold = pulse.hold(now, timeout) if pulse else None
        self._pulse = pulse
        self._timeout = timeout

    def with_timeout(self, timeout: timedelta) -> Evaluation:
        """The evaluation at the same time by another heartbeat timeout."""
        return self if timeout == self._timeout else Evaluation(self.now, self._pulse, timeout)

    @property
    def expires_before(self) -> datetime:
        """Only heartbeats before that time can be too old."""
        return (min(self.now, self.hold.gone_at) if self.hold else self.now) - self._timeout

    def state_of(self, instance: ModelInstance) -> InstanceState:
        """The state now, or as it is held."""
        return state_of(instance, self.now, self._timeout, self.hold)

    def listed(self, instance: ModelInstance) -> ListedInstance:
        """The instance with its state and its drain now."""
        return listed(instance, self.now, self._timeout, self.hold)

    def held_until(self, entry: ListedInstance) -> datetime | None:
        """The end of the hold, if the entry counts as alive only because of it; else None."""
        return self.hold.until if self.hold and entry.held else None

    def is_forgotten(self, instance: ModelInstance) -> bool:
        """Whether it is a tombstone that is not needed any more."""
        return is_forgotten(instance, self.now, self._timeout, self.hold)

    def is_long_gone(self, instance: ModelInstance, gone_for: timedelta, *, unchecked: bool = False) -> bool:
        """Whether it has been unhealthy or deregistered for longer than `gone_for`, and is not drained.

        With `unchecked` an instance without `check_healthy`, which never becomes unhealthy, counts as a checked one:
        its last heartbeat is older than `gone_for` and than the timeout.
        """
        if unchecked and not instance.check_healthy:
            instance = instance._replace(check_healthy=True)
        return is_long_gone(instance, self.now - gone_for, self.now) and self.state_of(instance) is not HEALTHY

    def is_expiry_unannounced(self, instance: ModelInstance) -> bool:
        """Whether it has expired and no event reports it yet."""
        return may_expire(instance) and self.state_of(instance) is InstanceState.UNHEALTHY

    def expires_at(self, instance: ModelInstance) -> datetime:
        """The time from which its heartbeat is too old: after `timeout` or, if its state was held, after the hold."""
        if self._pulse is None:
            return instance.last_heartbeat + self._timeout
        return self._pulse.ticked(self.now, self._timeout).expired_at(instance, self._timeout)

    def next_deadline(self, instance: ModelInstance) -> datetime | None:
        """The time from which `announce` may have something to announce; None: never, without another call."""
        times = []
        if may_expire(instance):
            times.append(self.expires_at(instance))
        if instance.drain is not None and instance.drain.until is not None and not instance.removed:
            times.append(instance.drain.until)
        return min(times, default=None)

    def drain_ended_at(self, instance: ModelInstance) -> datetime | None:
        """The end of a drain that is over and still stored; else None."""
        drain = instance.drain
        if drain is None or drain.until is None or drain.until > self.now or instance.removed:
            return None
        return drain.until

    def announce(self, instance: ModelInstance) -> tuple[ModelInstance, list[Change]]:
        """The facts after what time alone has changed, and its changes in order of time: an expiry, and the end of a
        drain. The same facts and no changes where there is nothing to announce.
        """
        due: list[tuple[datetime, Callable[[ModelInstance, datetime], tuple[ModelInstance, Change]]]] = []
        if (ended_at := self.drain_ended_at(instance)) is not None:
            due.append((ended_at, _end_drain))
        if self.is_expiry_unannounced(instance):
            due.append((self.expires_at(instance), _expire))
        changes = []
        for time, transition in sorted(due, key=lambda one: one[0]):
            instance, change = transition(instance, time)
            changes.append(change)
        return instance, changes

    def announce_command(
        self, before: ModelInstance | None, after: ModelInstance | None, cause: Cause
    ) -> tuple[ModelInstance | None, list[Change]]:
        """The facts `after` a command with their announced state, and the changes to store as events, in order.

        `before` None: the instance was unknown; `after` None: it is forgotten. The caller calls `announce` before the
        command first. A drain or undrain reports no other state: where one is not announced yet, since a clock was set
        back or the timeout is a longer one now, the next heartbeat reports it.
        """
        old = ABSENT if before is None or before.removed else before.announced_state
        new, drain_changed, drained = ABSENT, False, False
        if after is not None:
            state = after.announced_state if cause.verb in _DRAIN_VERBS else self.state_of(after)
            new = ABSENT if after.removed else state
            drain_changed = before is not None and old != ABSENT and before.drain != after.drain
            drained = after.drain is not None and not after.removed
            after = after if after.announced_state == state else after._replace(announced_state=state)
        subject = after or before
        if subject is None or (old == new and not drain_changed):
            return after, []
        return after, [Change(self.now, subject.key, old, new, cause, drained)]


def _end_drain(instance: ModelInstance, at: datetime) -> tuple[ModelInstance, Change]:
    state = instance.announced_state
    return instance._replace(drain=None), Change(at, instance.key, state, state, DRAIN_ENDED)


def _expire(instance: ModelInstance, at: datetime) -> tuple[ModelInstance, Change]:
    old, new, drained = instance.announced_state, InstanceState.UNHEALTHY, instance.drain is not None
    expired = instance._replace(announced_state=new, flaps=instance.flaps + 1)
    return expired, Change(at, instance.key, old, new, EXPIRED, drained)
