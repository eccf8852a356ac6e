"""The registry in memory, which `ctl serve` uses by default. It lives as long as its process."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.domain.events import HOUSEKEEPING, OPERATOR, WORKER, Cause
from dbgpt_ctl.domain.instance import HEALTHY
from dbgpt_ctl.domain.lifecycle import (
    Deregister,
    Drain,
    Evaluation,
    Heartbeat,
    Register,
    Undrain,
)
from dbgpt_ctl.domain.registry_outage import TICK_SECS, Pulse, moved_back, remember
from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable, StatesHeld
from dbgpt_ctl.registry.background import BackgroundTasks
from dbgpt_ctl.registry.contract import (
    RECENT_EVENTS,
    Lookup,
    ModelRegistry,
    RegistryFigures,
    RegistryHealth,
    RegistryInfo,
)
from dbgpt_ctl.registry.embedded.event_log import EventLog, random_stream
from dbgpt_ctl.registry.embedded.expiry_queue import ExpiryQueue
from dbgpt_ctl.registry.embedded.index import ModelIndex
from dbgpt_ctl.registry.model_counts import Group, ModelCounts
from dbgpt_ctl.registry.observer import NO_OBSERVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime, timedelta

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.events import Actor, Change, EventPage, EventQuery
    from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey, ModelInstance, Registration
    from dbgpt_ctl.domain.lifecycle import Command
    from dbgpt_ctl.domain.registry_outage import Hold, Outage
    from dbgpt_ctl.registry.contract import Listing
    from dbgpt_ctl.registry.observer import RegistryObserver

log = logging.getLogger(__name__)

SWEEP_SECS = 600.0
"""The time between two removals of instances that are long gone."""
EXAMINED_PER_TURN = 250
"""A prune and a sweep examine so many instances, and remove those that are gone, before other calls have their turn,
which takes some 2 ms.
"""
COUNTED_PER_TURN = 1000
"""This many models, or held instances, are counted before other calls have their turn, which takes some 2 ms."""
HOLD_TICKS = 5
"""Ticks between two checks whether a hold still holds an instance: the check looks at all instances, in the very time
in which every worker sends a heartbeat again.
"""
CHECKS_PER_TICK = RECENT_EVENTS
"""At most this many instances are checked for an expiry in one tick, which takes 0.05 s at most. When more expire at
once, or when a hold of very many instances ends, lists do not wait, and the last expiries are announced some seconds
later. More events at once would be forgotten before they are read.
"""
_CLOSED = "the registry is closed"


class EmbeddedModelRegistry(ModelRegistry):
    """Facts in dictionaries, indexed by model. A heartbeat costs the same with 100 and with 100,000 instances.

    Each call is atomic in its event loop, but `events` with a filter looks at them in turns.
    `max_instances` limits the number of instances and tombstones. With `watch_absence` no instance expires because the
    process was frozen or its clock stepped (rule 8). `new_stream` returns a name for the numbering of events.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeat_timeout: timedelta,
        max_instances: int = 200_000,
        watch_absence: bool = False,
        remove_after: timedelta | None = None,
        new_stream: Callable[[], str] = random_stream,
        observer: RegistryObserver = NO_OBSERVER,
    ) -> None:
        self._clock = clock
        self._watch_absence = watch_absence
        self._remove_after = remove_after
        self._state = RegistryState(
            heartbeat_timeout=heartbeat_timeout,
            max_instances=max_instances,
            log=EventLog(new_stream(), observer=observer),
        )
        self._reported_hold: Hold | None = None
        self._ticks = 0
        self._background: BackgroundTasks | None = None
        self._removing = asyncio.Lock()
        self._closed = False

    # --- life ---

    async def open(self) -> None:
        self._closed = False
        if self._watch_absence:
            self._state.tick(self._clock.now())
            self._background = self._background or self._start_background_tasks()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        background, self._background = self._background, None
        if background is not None:
            await background.stop()

    def health(self) -> RegistryHealth:
        if self._closed:
            return RegistryHealth(ready=False, checks=(Check("registry", _CLOSED),))
        hold = str(self._reported_hold) if self._reported_hold else None
        return RegistryHealth(ready=True, checks=(Check("registry"), Check("pulse", hold)))

    def describe(self) -> RegistryInfo:
        return RegistryInfo("embedded", None, durable=False)

    def figures(self) -> RegistryFigures:
        """Exact. The offset is 0.0: the registry's clock is the clock of this machine. No call waits: each is done at
        once.
        """
        return RegistryFigures(len(self._state.index), self._state.max_instances, clock_offset_secs=0.0)

    async def outages(self) -> tuple[Hold, ...]:
        return self._state.holds()

    # --- commands and queries ---

    async def register(
        self, sent: Registration, *, drain: DrainRequest | None = None, actor: Actor = WORKER
    ) -> Lookup | None:
        command = Register(sent, actor, drain)
        if command.returns_instance:
            return self._applied(command)
        self._state.apply(command, self._now())
        return None

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        return self._state.apply(Heartbeat(sent, actor), self._now())

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        return self._state.apply(Deregister(key, remove, actor), self._now())

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        """A list of all instances without a held one also ends the report of the hold."""
        listing = self._state.listing(model_name, self._now(), healthy_only=healthy_only)
        if self._reported_hold is not None and model_name is None and listing.held_until is None:
            self._set_reported_hold(None)
        return listing

    async def count(self) -> ModelCounts:
        """By the announced states, whose numbers are kept with each change. Only held instances are searched for."""
        self._state.announce(self._now(), at_most=CHECKS_PER_TICK)
        counts, names = ModelCounts(), iter(self._state.index.model_names())
        while turn := list(islice(names, COUNTED_PER_TURN)):
            for name in turn:
                self._state.index.add_counts(name, counts)
            await asyncio.sleep(0)
        if self._state.hold(self._now()) is not None:
            await self._count_held(counts)
        return counts

    async def _count_held(self, counts: ModelCounts) -> None:
        instances = iter(list(self._state.index.instances()))
        while turn := list(islice(instances, COUNTED_PER_TURN)):
            for instance in self._state.held(turn, self._now()):
                counts.add(instance.key.model_name, Group(HEALTHY, drained=False, checked=True), 0, held=1)
            await asyncio.sleep(0)

    async def get(self, key: InstanceKey) -> Lookup | None:
        return self._state.get(key, self._now())

    async def drain(
        self,
        key: InstanceKey,
        *,
        reason: str | None = None,
        duration: timedelta | None = None,
        actor: Actor = OPERATOR,
    ) -> Lookup | None:
        return self._applied(Drain(key, reason, actor, duration))

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        return self._applied(Undrain(key, actor))

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, unchecked: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        """Removes in turns, between which other calls are served. Prunes and sweeps follow one another."""
        if (hold := self._state.hold(self._now())) is not None:
            raise StatesHeld(hold.nothing_removed)
        remove_by = None if dry_run else actor
        return await self._examine(older_than, unchecked=unchecked, tombstones=False, remove_by=remove_by)

    async def read_events(self, query: EventQuery) -> EventPage:
        self._now()
        return await self._state.log.page(query)

    async def announce(self) -> None:
        self._state.announce(self._now())

    # --- background work ---

    def tick(self) -> None:
        """Records that the registry works, reports a hold, and announces expiries. Runs every second while open."""
        self._ticks += 1
        now = self._clock.now()
        if self._state.pulse is not None:
            self._state.tick(now)
            self._report_hold(now)
        self._state.announce(now, at_most=CHECKS_PER_TICK)

    async def sweep(self) -> int:
        """Removes instances that have been gone for longer than `remove_after`, and returns their number.

        Removes nothing while states are held.
        """
        self._now()
        if self._remove_after is None:
            return 0
        gone = await self._examine(self._remove_after, unchecked=False, tombstones=True, remove_by=HOUSEKEEPING)
        if gone:
            log.info(
                "%d instances removed that had been gone for %s",
                len(gone),
                self._remove_after,
                extra={"event": "registry.instances_removed"},
            )
        return len(gone)

    async def _examine(
        self, gone_for: timedelta, *, unchecked: bool, tombstones: bool, remove_by: Actor | None
    ) -> tuple[InstanceKey, ...]:
        """Finds all that is gone for so long, and removes it unless `remove_by` is None. Returns it in order.

        Each turn evaluates its instances at its own time: one may have come back since the call began, or states may be
        held now.
        """
        found: list[InstanceKey] = []
        async with self._removing:
            keys = iter(self._state.index.keys())
            while not self._closed and (turn := list(islice(keys, EXAMINED_PER_TURN))):
                now = self._clock.now()
                gone = self._state.long_gone(turn, gone_for, now, unchecked=unchecked, tombstones=tombstones)
                if remove_by is not None:
                    self._state.prune(gone, now, remove_by)
                found += [instance.key for instance in gone]
                await asyncio.sleep(0)
        return tuple(found)

    def _start_background_tasks(self) -> BackgroundTasks:
        """Each has a task of its own: a long sweep must not delay a tick, which would be a gap."""

        async def tick() -> None:
            self.tick()

        tasks = BackgroundTasks()
        tasks.every(TICK_SECS, tick, name="tick", first_after_secs=TICK_SECS)
        tasks.every(SWEEP_SECS, self.sweep, name="sweep", first_after_secs=SWEEP_SECS)
        return tasks

    def _report_hold(self, now: datetime) -> None:
        """Health and log report a hold only while it holds an instance (rule 8), or a few ticks longer: see `list`."""
        hold = self._state.hold(now)
        if hold is not None and hold == self._reported_hold and self._ticks % HOLD_TICKS:
            return
        if hold is not None and not any(self._state.held(self._state.index.instances(), now)):
            hold = None
        self._set_reported_hold(hold)

    def _set_reported_hold(self, hold: Hold | None) -> None:
        if hold is not None and hold != self._reported_hold:
            log.warning("%s", hold, extra={"event": "registry.held"})
        elif hold is None and self._reported_hold is not None:
            log.info("no state is held any longer", extra={"event": "registry.hold_ended"})
        self._reported_hold = hold

    # --- parts ---

    def _now(self) -> datetime:
        if self._closed:
            raise RegistryUnavailable(_CLOSED)
        return self._clock.now()

    def _applied(self, command: Register | Drain | Undrain) -> Lookup | None:
        """Applies the command, and returns the instance after it."""
        now = self._now()
        return self._state.get(command.key, now) if self._state.apply(command, now) else None


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
