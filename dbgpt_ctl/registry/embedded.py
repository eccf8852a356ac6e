"""The registry in memory: what `ctl serve` uses unless told otherwise. It lives as long as its process."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable
from dbgpt_ctl.instance import ModelInstance, is_forgotten, is_long_gone
from dbgpt_ctl.registry import Listing, ModelRegistry, RegistryHealth
from dbgpt_ctl.registry.pulse import TICK_SECS, Pulse, moved_back
from dbgpt_ctl.registry.shelves import Shelves

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.instance import InstanceKey, Registration
    from dbgpt_ctl.registry.pulse import Hold
    from dbgpt_ctl.registry.snapshot import SnapshotFile

log = logging.getLogger(__name__)

SWEEP_TICKS = 600
HOLD_TICKS = 5
"""Whether a hold still holds anybody is looked at so seldom, since that lists all, just when everybody beats again."""
SNAPSHOT_TICKS = 4
"""A change is in the snapshot after so many ticks at the latest."""


class EmbeddedModelRegistry(ModelRegistry):
    """Facts in dictionaries, one shelf per model. A beat costs the same at 100 and at 100,000 instances.

    Calls never wait, so each is atomic in its event loop. `max_instances` bounds all that is held, tombstones included.
    With `watch_absence` a frozen process or a clock that stepped expires nobody (rule 8). With `snapshot` the facts are
    read at `open` and written a few seconds after a change and at `close`, so they outlive the process.
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
    ) -> None:
        self._clock = clock
        self._timeout = heartbeat_timeout
        self._max_instances = max_instances
        self._watch_absence = watch_absence
        self._snapshot = snapshot
        self._remove_after = remove_after
        self._pulse: Pulse | None = None
        self._shelves = Shelves()
        self._changed = False
        self._held: Hold | None = None
        self._ticks = 0
        self._ticking: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Raises RegistryUnusable when the snapshot's folder cannot be written."""
        self._closed = False
        if self._snapshot is not None and not self._shelves:
            self._restore(*self._snapshot.read())
        if self._watch_absence:
            self._pulse = (self._pulse or Pulse(self._clock.now())).ticked(self._clock.now())
        if self._ticking is None and (self._watch_absence or self._snapshot is not None):
            self._ticking = asyncio.create_task(self._keep_ticking(), name="tick")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._ticking is not None:
            async with self._writing:  # its thread would go on, at the same file as the last write below
                self._ticking.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticking
            self._ticking = None
        await self._write_snapshot()

    def health(self) -> RegistryHealth:
        if self._closed:
            return RegistryHealth(ready=False, reason="the registry is closed")
        return RegistryHealth(ready=True, reason=str(self._held) if self._held else None)

    async def register(self, sent: Registration) -> None:
        now = self._now()
        stored = self._find(sent.key, now)
        registered = ModelInstance.first(sent, now) if stored is None else stored.registered(sent, now)
        self._put(registered, known=stored is not None)

    async def heartbeat(self, sent: Registration) -> bool:
        now = self._now()
        stored = self._find(sent.key, now)
        beaten = ModelInstance.first(sent, now) if stored is None else stored.beaten(now)
        self._put(beaten, known=stored is not None)
        return beaten.deregistered_at is None

    async def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        now = self._now()
        stored = self._find(key, now)
        if stored is None:
            return False
        self._put(stored.deregistered(now, remove=remove), known=True)
        return True

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        now = self._now()
        hold = self._hold(now)
        return self._shelves.list(model_name, now, self._timeout, hold, healthy_only=healthy_only).listing

    def _hold(self, now: datetime) -> Hold | None:
        return self._pulse.hold(now, self._timeout) if self._pulse else None

    def _now(self) -> datetime:
        if self._closed:
            raise RegistryUnavailable("the registry is closed")
        return self._clock.now()

    def _find(self, key: InstanceKey, now: datetime) -> ModelInstance | None:
        stored = self._shelves.get(key)
        if stored is not None and stored.removed and self._is_forgotten(stored, now):
            self._shelves.forget(key)
            return None
        return stored

    def _is_forgotten(self, stored: ModelInstance, now: datetime) -> bool:
        hold = self._hold(now)
        return (hold.is_forgotten if hold else is_forgotten)(stored, now, self._timeout)

    def _put(self, instance: ModelInstance, *, known: bool) -> None:
        if not known:
            self._make_room(instance)
        self._shelves.put(instance)
        self._changed = True

    def _make_room(self, newcomer: ModelInstance) -> None:
        """Lets go of tombstones that have done their duty, but only when their room is needed."""
        if len(self._shelves) < self._max_instances:
            return
        while (key := self._shelves.oldest_tombstone()) and self._find(key, newcomer.registered_at) is None:
            pass
        if len(self._shelves) >= self._max_instances:
            raise RegistryFull(
                f"{newcomer.key} refused: it would be one more than the {len(self._shelves)} that --max-instances "
                "allows; deregister some with --remove or raise it"
            )

    def tick(self) -> None:
        """Says that the registry lives, and notices when it did not. Runs every second between `open` and `close`."""
        if self._pulse is not None:
            now = self._clock.now()
            if step := self._pulse.set_back(now):
                self._move_back(now, step)
            self._pulse = self._pulse.ticked(now)
            self._tell_hold(now)

    def _move_back(self, now: datetime, step: timedelta) -> None:
        """Ages stay as they are when the clock is set back; else the dead would be alive until it is there again."""
        for each in list(self._shelves.instances()):
            self._shelves.put(replace(each, last_heartbeat=moved_back(each.last_heartbeat, now, step) or now))
        self._changed = True

    def sweep(self) -> int:
        """Removes what was gone for longer than `remove_after`; tells how many. Nothing while states are held."""
        now = self._now()
        if self._remove_after is None or self._hold(now) is not None:
            return 0
        before = now - self._remove_after
        gone = [each.key for each in self._shelves.instances() if is_long_gone(each, before)]
        for key in gone:
            self._shelves.forget(key)
        if gone:
            self._changed = True
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
            except Exception:  # whatever it is, it must not end this loop
                log.exception("a tick failed")

    def _tell_hold(self, now: datetime) -> None:
        """A hold is told only while it holds somebody (rule 8)."""
        hold = self._hold(now)
        self._ticks += 1
        if hold is not None and hold == self._held and self._ticks % HOLD_TICKS:
            return
        told = hold if hold and self._shelves.list(None, now, self._timeout, hold, healthy_only=False).held else None
        if told is not None and told != self._held:
            log.warning("%s", told)
        elif told is None and self._held is not None:
            log.info("no state is held any longer")
        self._held = told

    def _restore(self, instances: tuple[ModelInstance, ...], pulse: Pulse | None) -> None:
        for instance in instances[: self._max_instances]:
            self._put(instance, known=False)
        self._pulse = pulse
        self._changed = False

    async def _write_snapshot(self) -> None:
        """The pulse too is news: what expired since the last change must not be held after a restart (rule 8)."""
        async with self._writing:
            if self._snapshot is None or not (self._changed or self._shelves):
                return
            self._changed = False
            instances = tuple(self._shelves.instances())
            try:
                await asyncio.to_thread(self._snapshot.write, instances, self._pulse)
            except OSError as error:
                self._changed = True
                log.error("snapshot %s: %s", self._snapshot.path, error.strerror)  # noqa: TRY400 - the cause is known
