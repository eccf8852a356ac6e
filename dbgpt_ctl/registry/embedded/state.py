"""The state of the embedded registry: facts, events and expiry deadlines, and how commands and time change them.

Synchronous, and time is an argument: each call is atomic because nothing waits in it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.commands import Heartbeat
from dbgpt_ctl.domain.events import HOUSEKEEPING, Cause
from dbgpt_ctl.domain.instance import BEATING, ListedInstance
from dbgpt_ctl.domain.lifecycle import Evaluation, is_long_gone, may_expire
from dbgpt_ctl.domain.registry_outage import Pulse, moved_back
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.contract import Lookup
from dbgpt_ctl.registry.embedded.expiry_queue import ExpiryQueue
from dbgpt_ctl.registry.embedded.index import ModelIndex
from dbgpt_ctl.registry.embedded.snapshot import Snapshot

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.commands import Command
    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.embedded.event_log import EventLog
    from dbgpt_ctl.registry.embedded.index import CachedListing


class RegistryState:
    """A heartbeat costs the same with 100 and with 100,000 instances.

    `pulse` is None where outages are not watched.
    """

    def __init__(self, *, heartbeat_timeout: timedelta, max_instances: int, log: EventLog) -> None:
        self._timeout = heartbeat_timeout
        self._max_instances = max_instances
        self._index = ModelIndex()
        self._expiries = ExpiryQueue()
        self.log = log
        self.pulse: Pulse | None = None
        self.changes = 0
        """A counter of changes; a heartbeat that changes nothing but its own time is not counted."""

    @property
    def is_empty(self) -> bool:
        """Whether there is neither an instance nor a tombstone."""
        return not self._index

    # --- commands and queries ---

    def apply(self, command: Command, now: datetime) -> bool:
        """Applies the command and returns its answer. Raises RegistryFull."""
        stored = self._index.get(command.key)
        if stored is not None and isinstance(command, Heartbeat) and self._is_plain(stored, now):
            self._index.replace(stored.with_heartbeat(now))
            return True
        evaluation = self._evaluation(now)
        stored = self._find(command.key, evaluation)
        after, answer = command.apply(stored, now)
        if after is not None:
            self._store(stored, after, evaluation, command.cause)
        return answer

    def get(self, key: InstanceKey, now: datetime) -> Lookup | None:
        """The instance or tombstone with its state."""
        stored, evaluation = self._index.get(key), self._evaluation(now)
        if stored is None or evaluation.is_forgotten(stored):
            return None
        entry = ListedInstance(stored, evaluation.state_of(stored))
        return Lookup(entry, held_until=evaluation.held_until(entry))

    def listing(self, model_name: str | None, now: datetime, *, healthy_only: bool = False) -> CachedListing:
        """The instances of one model, or all, with their states."""
        return self._index.list(model_name, now, self._timeout, self.hold(now), healthy_only=healthy_only)

    def hold(self, now: datetime) -> Hold | None:
        """The hold after an outage, if there is one at `now`."""
        return self.pulse.hold(now, self._timeout) if self.pulse else None

    def long_gone(self, before: datetime, now: datetime) -> list[ModelInstance]:
        """Instances and tombstones gone before that time, in order of identity; none while states are held (rule 8)."""
        evaluation = self._evaluation(now)
        if evaluation.hold is not None:
            return []
        gone = (
            instance
            for instance in self._index.instances()
            if is_long_gone(instance, before) and evaluation.state_of(instance) not in BEATING
        )
        return sorted(gone, key=lambda instance: instance.key)

    def prune(self, gone: list[ModelInstance], now: datetime, actor: Actor = HOUSEKEEPING) -> None:
        """Forgets these instances and tombstones."""
        evaluation = self._evaluation(now)
        for instance in gone:
            self._store(self._find(instance.key, evaluation), None, evaluation, Cause("prune", actor))

    # --- time ---

    def tick(self, now: datetime) -> None:
        """Records that the registry works, and with that an outage before, or a clock that was set back (rule 8)."""
        before = self.pulse or Pulse(now)
        step = before.set_back(now)
        self.pulse = before.ticked(now, self._timeout)
        if step:
            for instance in list(self._index.instances()):
                heartbeat = moved_back(instance.last_heartbeat, now, step) or now
                self._index.put(instance._replace(last_heartbeat=heartbeat))
            self.changes += 1
        if step or self.pulse.gone_at != before.gone_at:
            self._reset_expiries(now)

    def announce_expiries(self, now: datetime, *, at_most: int | None = None) -> None:
        """Writes an event for each instance that has expired, in order of time.

        Checks at most `at_most` instances; the next call checks the others.
        """
        self.log.forget_old(now)
        evaluation = self._evaluation(now)
        announced: list[Change] = []
        early: list[tuple[InstanceKey, datetime]] = []
        for key, at in islice(self._expiries.pop_due(now), at_most):
            stored = self._index.get(key)
            if stored is None or not may_expire(stored):
                continue
            expires_at = evaluation.expires_at(stored)
            if expires_at > at:
                self._expiries.schedule(key, expires_at)
            elif changes := self._announce_expiry(stored, evaluation)[1]:
                announced += changes
            else:
                early.append((key, expires_at))
        for key, expires_at in early:
            self._expiries.schedule(key, max(expires_at, now))
        self.log.extend(announced)
        self.changes += len(announced)

    # --- snapshots ---

    def snapshot(self, *, complete: bool) -> Snapshot:
        """The whole state. `complete`: nothing changes after it."""
        instances = tuple(self._index.instances())
        return Snapshot(instances, self.pulse, self.log.stream, self.log.last_id, self.log.events, complete=complete)

    def restore(self, snapshot: Snapshot, now: datetime) -> None:
        """Takes over the state of a snapshot. The stream of events goes on only if no event followed the snapshot."""
        self.pulse = snapshot.pulse
        evaluation = self._evaluation(now)
        for instance in snapshot.instances[: self._max_instances]:
            announced = instance.announced_state if snapshot.stream else evaluation.state_of(instance)
            self._index.put(instance._replace(announced_state=announced))
        stream = snapshot.stream if snapshot.stream and snapshot.complete else self.log.stream
        self.log.restore(stream, snapshot.last_id, snapshot.events)
        self._reset_expiries(now)

    # --- parts ---

    def _is_plain(self, stored: ModelInstance, now: datetime) -> bool:
        """Whether a heartbeat changes nothing but its own time. Most heartbeats are plain."""
        heartbeat = stored.last_heartbeat
        return stored.announced_state in BEATING and heartbeat <= now and (now - heartbeat) <= self._timeout

    def _evaluation(self, now: datetime) -> Evaluation:
        return Evaluation(now, self.pulse, self._timeout)

    def _find(self, key: InstanceKey, evaluation: Evaluation) -> ModelInstance | None:
        """The stored facts. An expiry of the instance is announced before a command changes it."""
        stored = self._index.get(key)
        if stored is None:
            return None
        if evaluation.is_forgotten(stored):
            self._index.remove(key)
            return None
        stored, changes = self._announce_expiry(stored, evaluation)
        self.log.extend(changes)
        self.changes += len(changes)
        return stored

    def _announce_expiry(self, stored: ModelInstance, evaluation: Evaluation) -> tuple[ModelInstance, list[Change]]:
        after, changes = evaluation.announce_expiry(stored)
        if changes:
            self._index.put(after)
        return after, changes

    def _store(
        self, before: ModelInstance | None, after: ModelInstance | None, evaluation: Evaluation, cause: Cause
    ) -> None:
        """Stores the facts after a command and the events of their changes. `after` None: the instance is forgotten."""
        if before is None and after is not None:
            self._ensure_capacity(after, evaluation)
        announced, changes = evaluation.announce_command(before, after, cause)
        if announced is not None:
            self._index.put(announced)
            if may_expire(announced):
                self._expiries.schedule(announced.key, evaluation.expires_at(announced))
        elif before is not None:
            self._index.remove(before.key)
        self.log.extend(changes)
        self.changes += after is not before

    def _reset_expiries(self, now: datetime) -> None:
        """Computes all deadlines again: after an outage or a step of the clock they differ, and may be earlier."""
        evaluation = self._evaluation(now)
        self._expiries.reset(
            (instance.key, evaluation.expires_at(instance))
            for instance in self._index.instances()
            if may_expire(instance)
        )

    def _ensure_capacity(self, newcomer: ModelInstance, evaluation: Evaluation) -> None:
        """Removes tombstones that are not needed any more, but only when the capacity is used up."""
        if len(self._index) < self._max_instances:
            return
        while (key := self._index.oldest_tombstone()) and self._find(key, evaluation) is None:
            pass
        if len(self._index) >= self._max_instances:
            raise RegistryFull.refusing(newcomer.key, len(self._index))
