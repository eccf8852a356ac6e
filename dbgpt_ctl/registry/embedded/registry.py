"""The registry in memory: what `ctl serve` uses unless told otherwise. It lives as long as its process."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.commands import Deregister, Drain, Heartbeat, Register, Undrain
from dbgpt_ctl.domain.events import OPERATOR, WORKER
from dbgpt_ctl.domain.registry_outage import TICK_SECS
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.contract import Listing, ModelRegistry, RegistryHealth, RegistryInfo
from dbgpt_ctl.registry.embedded.event_log import EventLog, random_stream
from dbgpt_ctl.registry.embedded.snapshot import SnapshotWriter
from dbgpt_ctl.registry.embedded.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.events import Actor, EventPage
    from dbgpt_ctl.domain.instance import InstanceKey, Registration
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import Lookup
    from dbgpt_ctl.registry.embedded.snapshot import Saved, SnapshotFile

log = logging.getLogger(__name__)

SWEEP_TICKS = 600
HOLD_TICKS = 5
"""Whether a hold still holds anybody is looked at so seldom, since that lists all, just when everybody beats again."""
TICK_LOOKS = 10_000
"""So many are looked at for an expiry in a tick, which takes 0.1 s at most: when more expire at once, or a hold of very
many ends, lists are not kept waiting, and the last are told some seconds later.
"""
SNAPSHOT_TICKS = 4
"""A change is in the snapshot after so many ticks at the latest."""


class EmbeddedModelRegistry(ModelRegistry):
    """Facts in dictionaries, one shelf per model. A beat costs the same at 100 and at 100,000 instances.

    Each call is atomic in its event loop, and `events` costs as much as it tells: it may be asked often.
    `max_instances` bounds all that is held, tombstones included. With `watch_absence` a frozen process or a clock that
    stepped expires nobody (rule 8). With `snapshot` the facts and events are read at `open` and written a few seconds
    after a change and at `close`, so they outlive the process; `drain` and `undrain` wait for such a write.
    `new_stream` names the numbering of events; after a `kill -9` it is a new one, since no snapshot holds what was told
    last.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        heartbeat_timeout: timedelta,
        max_instances: int = 200_000,
        watch_absence: bool = False,
        snapshot: SnapshotFile | None = None,
        remove_after: timedelta | None = None,
        new_stream: Callable[[], str] = random_stream,
    ) -> None:
        self._clock = clock
        self._timeout = heartbeat_timeout
        self._watch_absence = watch_absence
        self._remove_after = remove_after
        self._snapshot = snapshot
        self._writer = SnapshotWriter(snapshot, self._saved) if snapshot else None
        self._store = Store(
            heartbeat_timeout=heartbeat_timeout, max_instances=max_instances, log=EventLog(new_stream())
        )
        self._held: Hold | None = None
        self._ticks = 0
        self._ticking: asyncio.Task[None] | None = None
        self._stored_changes = 0
        self._closed = False

    async def open(self) -> None:
        """Raises RegistryUnusable when the snapshot's folder cannot be written."""
        self._closed = False
        now = self._clock.now()
        if self._snapshot is not None and not self._store.shelves:
            saved = self._snapshot.read()
            self._store.restore(saved, now)
            if saved.complete:  # which the file must not say once more is told
                await self._write_snapshot()
        if self._watch_absence:
            self._store.ticked(now)
        if self._ticking is None and (self._watch_absence or self._snapshot is not None):
            self._ticking = asyncio.create_task(self._keep_ticking(), name="tick")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
            self._ticking = None
        await self._write_snapshot()

    def health(self) -> RegistryHealth:
        if self._closed:
            return RegistryHealth(ready=False, reason="the registry is closed")
        return RegistryHealth(ready=True, reason=str(self._held) if self._held else None)

    def describe(self) -> RegistryInfo:
        place = str(self._snapshot.path) if self._snapshot else None
        return RegistryInfo("embedded", place, durable=place is not None)

    async def register(self, sent: Registration, *, actor: Actor = WORKER) -> None:
        self._store.call(Register(sent, actor), self._now())

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        return self._store.call(Heartbeat(sent, actor), self._now())

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        return self._store.call(Deregister(key, remove, actor), self._now())

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        now = self._now()
        hold = self._store.hold(now)
        return self._store.shelves.list(model_name, now, self._timeout, hold, healthy_only=healthy_only).listing

    async def get(self, key: InstanceKey) -> Lookup | None:
        return self._store.get(key, self._now())

    async def drain(self, key: InstanceKey, *, reason: str | None = None, actor: Actor = OPERATOR) -> Lookup | None:
        """In force at once. With a snapshot it returns when that is written, which takes about a second at 100,000
        instances; drains that wait share one write. Raises RegistryUnavailable when it cannot be written: the drain is
        in force, but only as long as the process lives.
        """
        return await self._switch(Drain(key, reason, actor))

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        """As `drain`."""
        return await self._switch(Undrain(key, actor))

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        now = self._now()
        gone = [each for each in self._store.long_gone(now - older_than, now) if not each.removed]
        if not dry_run:
            self._store.prune(gone, now, actor)
        return tuple(each.key for each in gone)

    async def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        key: InstanceKey | None = None,
        limit: int = 1000,
    ) -> EventPage:
        self._now()
        return self._store.log.page(after, since, key, limit)

    async def announce(self) -> None:
        self._store.announce(self._now())

    def tick(self) -> None:
        """Says that the registry lives, and notices when it did not; then tells who expired. Runs every second between
        `open` and `close`.
        """
        now = self._clock.now()
        if self._store.pulse is not None:
            self._store.ticked(now)
            self._tell_hold(now)
        self._store.announce(now, at_most=TICK_LOOKS)

    def sweep(self) -> int:
        """Removes what was gone for longer than `remove_after`; tells how many. Nothing while states are held."""
        now = self._now()
        if self._remove_after is None:
            return 0
        gone = self._store.long_gone(now - self._remove_after, now)
        self._store.prune(gone, now)
        if gone:
            log.info("%d instances removed that had been gone for %s", len(gone), self._remove_after)
        return len(gone)

    async def _switch(self, call: Drain | Undrain) -> Lookup | None:
        now = self._now()
        found = self._store.get(call.key, now) if self._store.call(call, now) else None
        await self._keep()
        return found

    def _now(self) -> datetime:
        if self._closed:
            raise RegistryUnavailable("the registry is closed")
        return self._clock.now()

    async def _keep_ticking(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_SECS)
            try:
                self.tick()
                ticks += 1
                if ticks % SNAPSHOT_TICKS == 0:
                    await self._write_snapshot()
                if ticks % SWEEP_TICKS == 0:
                    self.sweep()
            except Exception:  # whatever it is, it must not end this loop
                log.exception("a tick failed")

    def _tell_hold(self, now: datetime) -> None:
        """A hold is told only while it holds somebody (rule 8)."""
        hold = self._store.hold(now)
        self._ticks += 1
        if hold is not None and hold == self._held and self._ticks % HOLD_TICKS:
            return
        listed = self._store.shelves.list(None, now, self._timeout, hold, healthy_only=False) if hold else None
        told = hold if listed and listed.held else None
        if told is not None and told != self._held:
            log.warning("%s", told)
        elif told is None and self._held is not None:
            log.info("no state is held any longer")
        self._held = told

    def _saved(self) -> Saved:
        return self._store.saved(complete=self._closed)

    async def _keep(self) -> None:
        """Waits until the snapshot, if there is one, holds all changes made so far."""
        changes = self._store.changes
        if self._writer is None or self._stored_changes >= changes:
            return
        if error := await self._write_snapshot():
            raise RegistryUnavailable(f"in force, but not stored: snapshot {error}")

    async def _write_snapshot(self) -> str | None:
        """The pulse too is news: what expired since the last change must not be held after a restart (rule 8)."""
        if self._snapshot is None or self._writer is None:
            return None
        changes = self._store.changes
        try:
            await self._writer.write()
        except OSError as error:
            told = f"{self._snapshot.path}: {error.strerror}"
            log.error("snapshot %s", told)  # noqa: TRY400 - the cause is known
            return told
        self._stored_changes = max(self._stored_changes, changes)
        return None
