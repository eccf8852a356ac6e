"""The instances of an embedded registry with their indexes, deadlines and events. No locks, no clock."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import Cause
from dbgpt_ctl.domain.instance import HEALTHY
from dbgpt_ctl.domain.lifecycle import (
    Evaluation,
    Heartbeat,
)
from dbgpt_ctl.domain.registry_outage import Pulse, moved_back, remember
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.contract import (
    Lookup,
)
from dbgpt_ctl.registry.embedded.index import ExpiryQueue, ModelIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.lifecycle import Command
    from dbgpt_ctl.domain.registry_outage import Hold, Outage
    from dbgpt_ctl.registry.contract import Listing
    from dbgpt_ctl.registry.embedded.event_log import EventLog


class RegistryState:
    """Facts, events and deadlines, and how commands and time change them.

    Synchronous, and time is an argument: each call is atomic because nothing waits in it. A heartbeat costs the same
    with 100 and with 100,000 instances. `pulse` is None where outages are not watched.
    """

    def __init__(self, *, heartbeat_timeout: timedelta, max_instances: int, log: EventLog) -> None:
        self._timeout = heartbeat_timeout
        self.max_instances = max_instances
        self.index = ModelIndex()
        self._deadlines = ExpiryQueue()
        self.log = log
        self.pulse: Pulse | None = None
        self._outages: tuple[Outage, ...] = ()

    # --- commands and queries ---

    def apply(self, command: Command, now: datetime) -> bool:
        """Applies the command and returns its answer. Raises RegistryFull."""
        stored = self.index.get(command.key)
        if stored is not None and isinstance(command, Heartbeat) and self._is_plain(stored, now):
            self.index.replace(stored.with_heartbeat(now))
            return True
        evaluation = self._evaluation(now)
        stored = self._find(command.key, evaluation)
        after, answer = command.apply(stored, now)
        if after is not None:
            self._store(stored, after, evaluation, command.cause)
        return answer

    def get(self, key: InstanceKey, now: datetime) -> Lookup | None:
        """The instance or tombstone with its state."""
        stored, evaluation = self.index.get(key), self._evaluation(now)
        if stored is None or evaluation.is_forgotten(stored):
            return None
        entry = evaluation.listed(stored)
        return Lookup(entry, held_until=evaluation.held_until(entry))

    def listing(self, model_name: str | None, now: datetime, *, healthy_only: bool = False) -> Listing:
        return self.index.list(model_name, now, self._timeout, self.hold(now), healthy_only=healthy_only).listing

    def hold(self, now: datetime) -> Hold | None:
        """The hold after an outage, if there is one at `now`."""
        return self.pulse.hold(now, self._timeout) if self.pulse else None

    def holds(self) -> tuple[Hold, ...]:
        """As `ModelRegistry.outages`."""
        return tuple(outage.hold(self._timeout) for outage in self._outages)

    def held(self, instances: Iterable[ModelInstance], now: datetime) -> Iterator[ModelInstance]:
        """Those of the instances that count as alive only because of the hold at `now`."""
        evaluation, fresh_from = self._evaluation(now), now - self._timeout
        for instance in instances if evaluation.hold is not None else ():
            if instance.last_heartbeat < fresh_from and not instance.removed and evaluation.listed(instance).held:
                yield instance

    def long_gone(
        self, keys: Iterable[InstanceKey], gone_for: timedelta, now: datetime, *, unchecked: bool, tombstones: bool
    ) -> list[ModelInstance]:
        """Those of the instances that have been gone for longer, in the same order; none while states are held
        (rule 8). With `tombstones` those among them too.
        """
        evaluation = self._evaluation(now)
        if evaluation.hold is not None:
            return []
        stored = filter(None, map(self.index.get, keys))
        return [
            instance
            for instance in stored
            if (tombstones or not instance.removed) and evaluation.is_long_gone(instance, gone_for, unchecked=unchecked)
        ]

    def prune(self, gone: Iterable[ModelInstance], now: datetime, actor: Actor) -> None:
        evaluation = self._evaluation(now)
        for instance in gone:
            self._store(self._find(instance.key, evaluation), None, evaluation, Cause("prune", actor))

    # --- time ---

    def tick(self, now: datetime) -> None:
        """Records that the registry works, and with that an outage before, or a clock that was set back (rule 8)."""
        before = self.pulse or Pulse(now)
        step = before.set_back(now)
        self.pulse = before.ticked(now, self._timeout)
        self._outages = remember(self._outages, self.pulse.outage, now)
        if step:
            for instance in list(self.index.instances()):
                heartbeat = moved_back(instance.last_heartbeat, now, step) or now
                self.index.put(instance._replace(last_heartbeat=heartbeat))
        if step or self.pulse.gone_at != before.gone_at:
            self._reset_deadlines(now)

    def announce(self, now: datetime, *, at_most: int | None = None) -> None:
        """Writes an event for each instance that has expired, and for each drain whose time is over, in order of time.

        Checks at most `at_most` instances; the next call checks the others.
        """
        self.log.forget_old(now)
        evaluation = self._evaluation(now)
        early: list[tuple[InstanceKey, datetime]] = []
        found: list[Change] = []
        for key, at in islice(self._deadlines.pop_due(now), at_most):
            stored = self.index.get(key)
            deadline = evaluation.next_deadline(stored) if stored else None
            if stored is None or deadline is None:
                continue
            if deadline > at:
                self._deadlines.schedule(key, deadline)
                continue
            after, changes = evaluation.announce(stored)
            if not changes:
                early.append((key, deadline))
                continue
            self.index.put(after)
            self._schedule(after, evaluation)
            found += changes
        for key, deadline in early:
            self._deadlines.schedule(key, max(deadline, now))
        self.log.extend(sorted(found, key=lambda change: (change.time, change.key)))

    # --- parts ---

    def _is_plain(self, stored: ModelInstance, now: datetime) -> bool:
        """Whether a heartbeat changes nothing but its own time. Most heartbeats are plain."""
        heartbeat = stored.last_heartbeat
        return stored.announced_state is HEALTHY and heartbeat <= now and (now - heartbeat) <= self._timeout

    def _evaluation(self, now: datetime) -> Evaluation:
        return Evaluation(now, self.pulse, self._timeout)

    def _find(self, key: InstanceKey, evaluation: Evaluation) -> ModelInstance | None:
        """The stored facts. What time alone has changed is announced before a command changes it."""
        stored = self.index.get(key)
        if stored is None:
            return None
        if evaluation.is_forgotten(stored):
            self._remove(key)
            return None
        after, changes = evaluation.announce(stored)
        if changes:
            self.index.put(after)
            self.log.extend(changes)
        return after

    def _store(
        self, before: ModelInstance | None, after: ModelInstance | None, evaluation: Evaluation, cause: Cause
    ) -> None:
        """Stores the facts after a command and the events of their changes. `after` None: the instance is forgotten."""
        if before is None and after is not None:
            self._ensure_capacity(after, evaluation)
        announced, changes = evaluation.announce_command(before, after, cause)
        if announced is not None:
            self.index.put(announced)
            self._schedule(announced, evaluation)
        elif before is not None:
            self._remove(before.key)
        self.log.extend(changes)

    def _remove(self, key: InstanceKey) -> None:
        self.index.remove(key)
        self._deadlines.discard(key)

    def _schedule(self, instance: ModelInstance, evaluation: Evaluation) -> None:
        if (deadline := evaluation.next_deadline(instance)) is not None:
            self._deadlines.schedule(instance.key, deadline)

    def _reset_deadlines(self, now: datetime) -> None:
        """Computes all deadlines again: after an outage or a step of the clock they differ, and may be earlier."""
        evaluation = self._evaluation(now)
        self._deadlines.reset(
            (instance.key, deadline)
            for instance in self.index.instances()
            if (deadline := evaluation.next_deadline(instance)) is not None
        )

    def _ensure_capacity(self, newcomer: ModelInstance, evaluation: Evaluation) -> None:
        """Removes tombstones that are not needed any more, but only when the capacity is used up."""
        if len(self.index) < self.max_instances:
            return
        while (key := self.index.oldest_tombstone()) and self._find(key, evaluation) is None:
            pass
        if len(self.index) >= self.max_instances:
            raise RegistryFull.refusing(newcomer.key, len(self.index))
