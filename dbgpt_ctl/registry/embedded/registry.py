"""The registry in memory, which `ctl serve` uses by default. It lives as long as its process."""

from __future__ import annotations

import asyncio
import logging
from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.background import BackgroundTasks
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.domain.events import HOUSEKEEPING, OPERATOR, WORKER
from dbgpt_ctl.domain.instance import HEALTHY
from dbgpt_ctl.domain.lifecycle import (
    Deregister,
    Drain,
    Heartbeat,
    Register,
    Undrain,
)
from dbgpt_ctl.domain.registry_outage import TICK_SECS
from dbgpt_ctl.errors import RegistryUnavailable, StatesHeld
from dbgpt_ctl.registry.contract import (
    NO_OBSERVER,
    RECENT_EVENTS,
    Lookup,
    ModelRegistry,
    RegistryFigures,
    RegistryHealth,
    RegistryInfo,
)
from dbgpt_ctl.registry.embedded.event_log import EventLog, random_stream
from dbgpt_ctl.registry.embedded.state import RegistryState
from dbgpt_ctl.registry.model_counts import CountsByModel, Group

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.events import Actor, EventPage, EventQuery
    from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey, Registration
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import Listing, RegistryObserver

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

    async def count(self) -> CountsByModel:
        """By the announced states, whose numbers are kept with each change. Only held instances are searched for."""
        self._state.announce(self._now(), at_most=CHECKS_PER_TICK)
        counts, names = CountsByModel(), iter(self._state.index.model_names())
        while turn := list(islice(names, COUNTED_PER_TURN)):
            for name in turn:
                self._state.index.add_counts(name, counts)
            await asyncio.sleep(0)
        if self._state.hold(self._now()) is not None:
            await self._count_held(counts)
        return counts

    async def _count_held(self, counts: CountsByModel) -> None:
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
