"""The registry in a database: SQLite, MySQL, MariaDB. Several controllers may share one."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.domain.commands import Deregister, Drain, Heartbeat, Register, Undrain
from dbgpt_ctl.domain.events import OPERATOR, WORKER
from dbgpt_ctl.domain.registry_outage import TICK_SECS
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.background import BackgroundTasks
from dbgpt_ctl.registry.contract import Listing, Lookup, ModelRegistry, RegistryHealth, RegistryInfo
from dbgpt_ctl.registry.database.capacity import Room
from dbgpt_ctl.registry.database.commits import Commits
from dbgpt_ctl.registry.database.dialects.mysql import DatabaseTimeouts
from dbgpt_ctl.registry.database.expiry import Announcer
from dbgpt_ctl.registry.database.group_commit import each_its_own
from dbgpt_ctl.registry.database.lanes import Lanes
from dbgpt_ctl.registry.database.reader import Lists
from dbgpt_ctl.registry.database.reads import Reads
from dbgpt_ctl.registry.database.retention import Housekeeping
from dbgpt_ctl.registry.database.session import Database
from dbgpt_ctl.registry.database.tables.events import EventQuery
from dbgpt_ctl.registry.database.tables.pulse import tick

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import URL

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.database_hosts import DatabaseHost
    from dbgpt_ctl.domain.commands import Command
    from dbgpt_ctl.domain.events import Actor, EventPage
    from dbgpt_ctl.domain.instance import InstanceKey, Registration
    from dbgpt_ctl.registry.database.lanes import Answer

__all__ = ["DatabaseModelRegistry", "DatabaseTimeouts"]

T = TypeVar("T")

REGISTER_PATIENCE_SECS = 4.0
"""A DB-GPT client gives up at 5 s."""
SWEEP_SECS = 60.0
REFRESH_RETRY_SECS = 2.0


class DatabaseModelRegistry(ModelRegistry):
    """Facts in the table `ctl_instance`; the rules are those of `instance`, applied under row locks.

    Each kind of call has a lane with at most one batch under way: writes (group commit), lists of models, lists of all,
    single instances, events. What waits together is asked together, so a list begins after all who share it came, and
    those get the same `Listing` object.
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
        refresh_interval: timedelta = timedelta(seconds=20),
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
        rules: Any = {"clock": self._clock, "timeout": heartbeat_timeout, "watch_absence": watch_absence}
        self._commits = Commits(self._database, room=Room(max_instances), **rules)
        self._lists = Lists(**rules)
        self._reads = Reads(self._database, self._lists)
        self._announcer = Announcer(self._database, **rules)
        self._housekeeping = Housekeeping(self._database, remove_after=remove_after, **rules)
        self._watch_absence = watch_absence
        self._lanes: Lanes | None = None
        self._closed = False
        self._back = asyncio.Event()
        self._refresh_secs = refresh_interval.total_seconds()
        self._announcement_due = asyncio.Event()
        self._background: BackgroundTasks | None = None

    async def open(self) -> None:
        if self._lanes is None:
            lanes = Lanes(partial(each_its_own, self._commit), self._reads)
            try:
                await lanes.run(self._prepare)
            except BaseException:
                await lanes.close(self._database.dispose)
                raise
            self._lanes = lanes
            if self._watch_absence:
                self._background = self._start_background_tasks()
        self._closed = False

    async def close(self) -> None:
        lanes, self._lanes, self._closed = self._lanes, None, True
        self._database.leaving = True
        self._back.set()  # who waits for the database waits in vain
        background, self._background = self._background, None
        if background is not None:
            await background.stop()
        if lanes is not None:
            await lanes.close(self._database.dispose)

    async def register(self, sent: Registration, *, actor: Actor = WORKER) -> None:
        """A worker whose register fails ends itself: it waits a little for a database that may come back, also
        while this opens (rule 10).
        """
        if not self._watch_absence:
            await self._write(Register(sent, actor))
            return
        try:
            async with asyncio.timeout(REGISTER_PATIENCE_SECS):
                await self._register_patiently(Register(sent, actor))
        except TimeoutError:
            raise self._away() from None

    async def _register_patiently(self, call: Register) -> None:
        while True:
            try:
                await self._write(call)
            except RegistryUnavailable:
                if self._closed:
                    raise
                self._back.clear()
                await self._back.wait()
            else:
                return

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        return bool(await self._write(Deregister(key, remove, actor)))

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        return bool(await self._write(Heartbeat(sent, actor)))

    async def drain(self, key: InstanceKey, *, reason: str | None = None, actor: Actor = OPERATOR) -> Lookup | None:
        found = await self._write(Drain(key, reason, actor))
        return found if isinstance(found, Lookup) else None

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        found = await self._write(Undrain(key, actor))
        return found if isinstance(found, Lookup) else None

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        return await self._run(partial(self._housekeeping.prune, older_than, actor, dry_run=dry_run))

    async def get(self, key: InstanceKey) -> Lookup | None:
        return await self._opened(answering=True).single.submit(key)

    async def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        key: InstanceKey | None = None,
        limit: int = 1000,
    ) -> EventPage:
        return await self._opened(answering=True).events.submit(EventQuery(after, since, key, limit))

    async def announce(self) -> None:
        await self._run(self._announcer.announce)

    def describe(self) -> RegistryInfo:
        """MySQL or MariaDB as the server says; before it was asked, as the URL does."""
        return RegistryInfo(self._database.kind, self._database.place, durable=True)

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        """From the last known list while the database is away; with `watch_absence` that is at most
        `refresh_interval` old.
        """
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
        return self._lists.health(self._database.health)

    async def _write(self, call: Command) -> Answer:
        return await self._opened().writes.submit(call)

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._opened(answering=True).run(work)

    def _opened(self, *, answering: bool = False) -> Lanes:
        """With `answering`, raises at once while the database is known to be away."""
        if self._lanes is None:
            raise RegistryUnavailable(self.health().reason or "the registry is not open")
        if answering:
            self._require_answers()
        return self._lanes

    def _require_answers(self) -> None:
        if self._background is not None and not self._database.health.ready:
            raise self._away()  # at once: the tick finds out when it is back

    def _start_background_tasks(self) -> BackgroundTasks:
        tasks = BackgroundTasks()
        tasks.every(TICK_SECS, self.tick, name="tick")
        tasks.after(self._announcement_due, self._announce_at_times, name="announce expiries")
        tasks.every(self._refresh_secs, self.refresh, name="refresh the last known list", retry_secs=REFRESH_RETRY_SECS)
        tasks.every(SWEEP_SECS, self.sweep, name="sweep", first_after_secs=SWEEP_SECS)
        return tasks

    async def tick(self) -> None:
        """Records that this controller lives, and so notices when a database that was away is back. Runs every second
        while open, with `watch_absence`. When no other controller was faster, this one announces expiries next.
        """
        lanes = self._opened()
        if await lanes.run(self._tick):
            self._announcement_due.set()
        self._back.set()

    async def refresh(self) -> None:
        """Reads all instances, for the last known list (rule 10)."""
        await self._opened(answering=True).all.submit((None, False))

    async def _announce_at_times(self) -> None:
        await self._run(self._announcer.announce_now_and_then)

    def _away(self) -> RegistryUnavailable:
        return RegistryUnavailable(self._database.health.reason or "the database does not answer in time")

    def _prepare(self) -> None:
        self._database.prepare()
        if self._watch_absence:
            self._database.write(partial(tick, clock=self._clock, timeout=self._timeout))

    def _tick(self) -> bool:
        work = partial(tick, clock=self._clock, timeout=self._timeout)
        self._database.return_to_better_host(work)
        return self._database.write(work)

    async def sweep(self) -> int:
        """Forgets old events and what was gone for longer than `remove_after`; tells how many instances."""
        return await self._run(self._housekeeping.sweep)

    def _commit(self, calls: Sequence[Command]) -> Sequence[Answer | Exception]:
        self._require_answers()
        return self._commits.run(calls)
