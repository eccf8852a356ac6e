"""The registry in a database: SQLite, MySQL, MariaDB. Several controllers may share one."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial
from typing import TYPE_CHECKING

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.errors import RegistryError, RegistryUnavailable
from dbgpt_ctl.registry import Listing, ModelRegistry, RegistryHealth
from dbgpt_ctl.registry.batch import each_its_own
from dbgpt_ctl.registry.commits import Commits
from dbgpt_ctl.registry.engine import DatabaseTimeouts
from dbgpt_ctl.registry.housekeeping import sweep
from dbgpt_ctl.registry.lanes import Lanes
from dbgpt_ctl.registry.lists import Lists
from dbgpt_ctl.registry.pulse import TICK_SECS
from dbgpt_ctl.registry.room import Room
from dbgpt_ctl.registry.ticks import tick
from dbgpt_ctl.registry.transactions import Database
from dbgpt_ctl.registry.writes import Beat, Deregister, Register

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sqlalchemy import URL, Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.hosts import DatabaseHost
    from dbgpt_ctl.instance import InstanceKey, Registration
    from dbgpt_ctl.registry.lanes import Query
    from dbgpt_ctl.registry.pulse import Pulse
    from dbgpt_ctl.registry.writes import Call

__all__ = ["DatabaseModelRegistry", "DatabaseTimeouts"]

log = logging.getLogger(__name__)

SWEEP_TICKS = 60
REGISTER_PATIENCE_SECS = 4.0
"""A DB-GPT client gives up at 5 s."""


class DatabaseModelRegistry(ModelRegistry):
    """Facts in the table `ctl_instance`; the rules are those of `instance`, applied under row locks.

    Three lanes, each with at most one batch under way: writes (group commit), lists of models, lists of all. What waits
    together is asked together, so a list begins after all who share it came, and those get the same `Listing` object.
    Without `clock` the time is the database's, on SQLite this host's (rule 7). `max_instances` counts tombstones too.
    The password in `url` is in no error or log.
    """

    def __init__(
        self,
        url: URL,
        *,
        heartbeat_timeout: timedelta,
        max_instances: int = 200_000,
        clock: Clock | None = None,
        pool_size: int = 5,
        max_overflow: int = 10,
        hosts: Sequence[DatabaseHost] = (),
        ssl_ca: str | None = None,
        watch_absence: bool = False,
        remove_after: timedelta | None = None,
        timeouts: DatabaseTimeouts | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self._database = Database(
            url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            hosts=hosts,
            ssl_ca=ssl_ca,
            timeouts=timeouts or DatabaseTimeouts(),
            randomness=randomness or random.Random(),  # noqa: S311 - spreads retries, guards nothing
        )
        self._timeout = heartbeat_timeout
        self._clock = SystemClock() if clock is None and self._database.is_sqlite else clock
        self._commits = Commits(
            self._database,
            clock=self._clock,
            timeout=heartbeat_timeout,
            room=Room(max_instances),
            watch_absence=watch_absence,
        )
        self._lanes: Lanes | None = None
        self._closed = False
        self._watch_absence = watch_absence
        self._lists = Lists(clock=self._clock, timeout=heartbeat_timeout, watch_absence=watch_absence)
        self._remove_after = remove_after
        self._back = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if self._lanes is None:
            lanes = Lanes(self._commit, self._list)
            try:
                await lanes.run(self._prepare)
            except BaseException:
                await lanes.close(self._database.dispose)
                raise
            self._lanes = lanes
            if self._watch_absence:
                self._ticking = asyncio.create_task(self._keep_ticking(), name="tick")
        self._closed = False

    async def close(self) -> None:
        lanes, self._lanes, self._closed = self._lanes, None, True
        self._back.set()  # who waits for the database waits in vain
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
            self._ticking = None
        if lanes is not None:
            await lanes.close(self._database.dispose)

    async def register(self, sent: Registration) -> None:
        """A worker whose register fails ends itself: it waits a little for a database that may come back, also
        while this opens (rule 10).
        """
        if not self._watch_absence:
            await self._write(Register(sent))
            return
        try:
            async with asyncio.timeout(REGISTER_PATIENCE_SECS):
                await self._register_patiently(sent)
        except TimeoutError:
            raise self._away() from None

    async def _register_patiently(self, sent: Registration) -> None:
        while True:
            try:
                await self._write(Register(sent))
            except RegistryUnavailable:
                if self._closed:
                    raise
                self._back.clear()
                await self._back.wait()
            else:
                return

    async def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        return await self._write(Deregister(key, remove))

    async def heartbeat(self, sent: Registration) -> bool:
        return await self._write(Beat(sent))

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        """From the last full list while the database is away; whoever runs the registry lists all now and then."""
        lanes = self._opened()
        known = self._lists.known
        if known is not None and not self._database.health.ready:
            return known.listing(model_name, healthy_only=healthy_only)
        try:
            return await (lanes.all if model_name is None else lanes.models).submit((model_name, healthy_only))
        except RegistryUnavailable:
            if known is None:
                raise
            return known.listing(model_name, healthy_only=healthy_only)

    def health(self) -> RegistryHealth:
        if self._closed:
            return RegistryHealth(ready=False, reason="the registry is closed")
        health, known = self._database.health, self._lists.known
        if health.ready:
            return RegistryHealth(ready=True, reason=str(self._lists.held) if self._lists.held else None)
        if known is None:
            return health
        at = known.at.isoformat(timespec="seconds")
        return RegistryHealth(ready=True, reason=f"{health.reason}; lists are as of {at}")

    async def _write(self, call: Call) -> bool:
        return await self._opened().writes.submit(call)

    def _opened(self) -> Lanes:
        if self._lanes is None:
            raise RegistryUnavailable(self.health().reason or "the registry is not open")
        return self._lanes

    async def tick(self) -> None:
        """Says that this controller lives, and so notices when a database that was away is back. Runs every second
        while open, with `watch_absence`.
        """
        lanes = self._opened()
        await lanes.run(self._tick_now)
        self._back.set()

    def _away(self) -> RegistryUnavailable:
        return RegistryUnavailable(self._database.health.reason or "the database does not answer in time")

    def _prepare(self) -> None:
        self._database.prepare()
        if self._watch_absence:
            self._database.write(self._tick)

    def _tick_now(self) -> None:
        self._database.return_to_better_host(self._tick)
        self._database.write(self._tick)

    def _tick(self, connection: Connection) -> Pulse:
        return tick(connection, self._clock)

    async def sweep(self) -> int:
        """Removes what was gone for longer than `remove_after`, unless another controller just did; tells how many."""
        if self._remove_after is None:
            return 0
        work = partial(sweep, clock=self._clock, remove_after=self._remove_after, timeout=self._timeout)
        return await self._opened().run(lambda: self._database.write(work))

    async def _keep_ticking(self) -> None:
        ticks = 0
        while True:
            try:
                await self.tick()
                if ticks % SWEEP_TICKS == SWEEP_TICKS - 1:
                    await self.sweep()
            except RegistryError:
                pass  # health tells of it, and the log
            except Exception:  # whatever it is, it must not end this loop: nobody else finds out that all is well again
                log.exception("a tick failed")
            ticks += 1
            await asyncio.sleep(TICK_SECS)

    def _commit(self, calls: Sequence[Call]) -> Sequence[bool | Exception]:
        return each_its_own(self._commit_together, calls)

    def _commit_together(self, calls: Sequence[Call]) -> Sequence[bool | Exception]:
        if self._ticking is not None and not self._database.health.ready:
            raise self._away()  # at once: the tick finds out when it is back
        return self._commits.run(calls)

    def _list(self, queries: Sequence[Query]) -> Sequence[Listing]:
        answers = self._database.read(partial(self._lists.answer, set(queries)))
        return [answers[query] for query in queries]
