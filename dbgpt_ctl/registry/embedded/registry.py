"""The registry in memory, which `ctl serve` uses by default. Without a snapshot it lives as long as its process."""

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
from dbgpt_ctl.registry.embedded.state import RegistryState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.events import Actor, EventPage
    from dbgpt_ctl.domain.instance import InstanceKey, Registration
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import Lookup
    from dbgpt_ctl.registry.embedded.snapshot import Snapshot, SnapshotFile

log = logging.getLogger(__name__)

SWEEP_TICKS = 600
"""Ticks between two removals of instances that are long gone."""
HOLD_TICKS = 5
"""Ticks between two checks whether a hold still holds an instance: the check lists all instances, in the very time in
which every worker sends a heartbeat again.
"""
CHECKS_PER_TICK = 10_000
"""At most this many instances are checked for an expiry in one tick, which takes 0.1 s at most. When more expire at
once, or when a hold of very many instances ends, lists do not wait, and the last expiries are announced some seconds
later.
"""
SNAPSHOT_TICKS = 4
"""A change is in the snapshot after at most this many ticks."""


class EmbeddedModelRegistry(ModelRegistry):
    """Facts in dictionaries, indexed by model. A heartbeat costs the same with 100 and with 100,000 instances.

    Each call is atomic in its event loop. The cost of `events` depends on the size of its answer only.
    `max_instances` limits the number of instances and tombstones. With `watch_absence` no instance expires because the
    process was frozen or its clock stepped (rule 8). With `snapshot` the facts and events outlive the process: they are
    read at `open`, and written a few seconds after a change and at `close`; `drain` and `undrain` wait for the write.
    `new_stream` returns a name for the numbering of events. After a `kill -9` the numbering is a new one, since no
    snapshot holds the last events.
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
        self._watch_absence = watch_absence
        self._remove_after = remove_after
        self._snapshot_file = snapshot
        self._snapshot_writer = SnapshotWriter(snapshot, self._snapshot) if snapshot else None
        self._state = RegistryState(
            heartbeat_timeout=heartbeat_timeout, max_instances=max_instances, log=EventLog(new_stream())
        )
        self._reported_hold: Hold | None = None
        self._ticks = 0
        self._ticking: asyncio.Task[None] | None = None
        self._stored_changes = 0
        self._closed = False

    # --- life ---

    async def open(self) -> None:
        """Raises RegistryUnusable when the folder of the snapshot cannot be written."""
        self._closed = False
        now = self._clock.now()
        if self._snapshot_file is not None and self._state.is_empty:
            snapshot = self._snapshot_file.read()
            self._state.restore(snapshot, now)
            if snapshot.complete:  # from now on events follow, so the file must not say that it is complete
                await self._write_snapshot()
        if self._watch_absence:
            self._state.tick(now)
        if self._ticking is None and (self._watch_absence or self._snapshot_file is not None):
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
        return RegistryHealth(ready=True, reason=str(self._reported_hold) if self._reported_hold else None)

    def describe(self) -> RegistryInfo:
        place = str(self._snapshot_file.path) if self._snapshot_file else None
        return RegistryInfo("embedded", place, durable=place is not None)

    # --- commands and queries ---

    async def register(self, sent: Registration, *, actor: Actor = WORKER) -> None:
        self._state.apply(Register(sent, actor), self._now())

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        return self._state.apply(Heartbeat(sent, actor), self._now())

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        return self._state.apply(Deregister(key, remove, actor), self._now())

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        return self._state.listing(model_name, self._now(), healthy_only=healthy_only).listing

    async def get(self, key: InstanceKey) -> Lookup | None:
        return self._state.get(key, self._now())

    async def drain(self, key: InstanceKey, *, reason: str | None = None, actor: Actor = OPERATOR) -> Lookup | None:
        """In force at once. With a snapshot it returns after the write, which takes about a second with 100,000
        instances; concurrent drains share one write. Raises RegistryUnavailable when the write fails: the drain is in
        force, but only as long as the process lives.
        """
        return await self._apply_durably(Drain(key, reason, actor))

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        """As `drain`."""
        return await self._apply_durably(Undrain(key, actor))

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        now = self._now()
        gone = [instance for instance in self._state.long_gone(now - older_than, now) if not instance.removed]
        if not dry_run:
            self._state.prune(gone, now, actor)
        return tuple(instance.key for instance in gone)

    async def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        key: InstanceKey | None = None,
        limit: int = 1000,
    ) -> EventPage:
        self._now()
        return self._state.log.page(after, since, key, limit)

    async def announce(self) -> None:
        self._state.announce_expiries(self._now())

    # --- background work ---

    def tick(self) -> None:
        """Records that the registry works, reports a hold, and announces expiries. Runs every second while open."""
        now = self._clock.now()
        if self._state.pulse is not None:
            self._state.tick(now)
            self._report_hold(now)
        self._state.announce_expiries(now, at_most=CHECKS_PER_TICK)

    def sweep(self) -> int:
        """Removes instances that have been gone for longer than `remove_after`, and returns their number.

        Removes nothing while states are held.
        """
        now = self._now()
        if self._remove_after is None:
            return 0
        gone = self._state.long_gone(now - self._remove_after, now)
        self._state.prune(gone, now)
        if gone:
            log.info("%d instances removed that had been gone for %s", len(gone), self._remove_after)
        return len(gone)

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
            except Exception:  # no error may end this loop
                log.exception("a tick failed")

    def _report_hold(self, now: datetime) -> None:
        """Health and log report a hold only while it holds an instance (rule 8)."""
        hold = self._state.hold(now)
        self._ticks += 1
        if hold is not None and hold == self._reported_hold and self._ticks % HOLD_TICKS:
            return
        if hold is not None and not self._state.listing(None, now).held:
            hold = None
        if hold is not None and hold != self._reported_hold:
            log.warning("%s", hold)
        elif hold is None and self._reported_hold is not None:
            log.info("no state is held any longer")
        self._reported_hold = hold

    # --- parts ---

    def _now(self) -> datetime:
        if self._closed:
            raise RegistryUnavailable("the registry is closed")
        return self._clock.now()

    async def _apply_durably(self, command: Drain | Undrain) -> Lookup | None:
        """Applies the command and waits until the snapshot, if there is one, holds it."""
        now = self._now()
        found = self._state.get(command.key, now) if self._state.apply(command, now) else None
        if (
            self._snapshot_writer is not None
            and self._stored_changes < self._state.changes
            and (error := await self._write_snapshot())
        ):
            raise RegistryUnavailable(f"in force, but not stored: snapshot {error}")
        return found

    def _snapshot(self) -> Snapshot:
        return self._state.snapshot(complete=self._closed)

    async def _write_snapshot(self) -> str | None:
        """Writes the snapshot, also without a change: it holds the pulse, and an instance that expired since the last
        change must not be held after a restart (rule 8). Returns the error, if there is one.
        """
        if self._snapshot_file is None or self._snapshot_writer is None:
            return None
        changes = self._state.changes
        try:
            await self._snapshot_writer.write()
        except OSError as error:
            reason = f"{self._snapshot_file.path}: {error.strerror}"
            log.error("snapshot %s", reason)  # noqa: TRY400 - the cause is known
            return reason
        self._stored_changes = max(self._stored_changes, changes)
        return None
