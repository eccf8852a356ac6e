"""The registry in a database. Several controllers may share one."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError

from dbgpt_ctl.background import BackgroundTasks
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.domain.events import OPERATOR, WORKER
from dbgpt_ctl.domain.lifecycle import Deregister, Drain, Heartbeat, Register, Undrain
from dbgpt_ctl.domain.registry_outage import TICK_SECS
from dbgpt_ctl.errors import RegistryError, RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.contract import (
    NO_OBSERVER,
    Listing,
    Lookup,
    ModelRegistry,
    RegistryFigures,
    RegistryHealth,
    RegistryInfo,
)
from dbgpt_ctl.registry.database.damaged_rows import DamagedRows
from dbgpt_ctl.registry.database.dialects.base import cause_of
from dbgpt_ctl.registry.database.expiry import ExpiryAnnouncer
from dbgpt_ctl.registry.database.group_commit import Batcher, isolating_failures
from dbgpt_ctl.registry.database.reader import ListArguments, Reader
from dbgpt_ctl.registry.database.retention import Gone, PruneAnswer, PruneArguments, Retention
from dbgpt_ctl.registry.database.session import Database
from dbgpt_ctl.registry.database.tables.controllers import SharingControllers
from dbgpt_ctl.registry.database.tables.instances import count_rows
from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime
from dbgpt_ctl.registry.database.writer import Answer, Capacity, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import URL, Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.databases import DatabaseHost
    from dbgpt_ctl.domain.controllers import ControllerIdentity, ControllerRecord
    from dbgpt_ctl.domain.events import Actor, EventPage, EventQuery
    from dbgpt_ctl.domain.instance import DrainRequest, InstanceKey, Registration
    from dbgpt_ctl.domain.lifecycle import Command
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import RegistryObserver
    from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts
    from dbgpt_ctl.registry.model_counts import CountsByModel

log = logging.getLogger(__name__)

T = TypeVar("T")

REGISTER_DEADLINE_SECS = 4.0
"""A DB-GPT client gives up at 5 s."""
SWEEP_SECS = 60.0
REFRESH_RETRY_SECS = 2.0
THREADS = 8
"""One for each batcher of workers' and API servers' calls, for the announcements, for the sweep, and for the count of
instances.
"""


class DatabaseModelRegistry(ModelRegistry):
    """The facts are in the table `ctl_instance`; the rules are those of `domain`, applied under row locks.

    Writes, lists of models, lists of all instances, lookups and events each have a batcher. So calls that wait together
    share one read or one transaction, a list begins after all calls that share it came, and these get the same
    `Listing` object. Prunes and the removals of a sweep follow one another in a thread of their own, and the tick has
    one too: no number of prunes, and no long sweep, takes the threads of other calls, or delays a tick.

    Without `clock` the time is the database's, on SQLite this host's (rule 7). `max_instances` counts tombstones too.
    With `watch_absence` the registry keeps its pulse, holds states after its own absence (rule 8), announces expiries,
    sweeps, and refreshes the last known list every `refresh_interval` (rule 10).
    With `identity` too, it keeps a row for the controllers with which it shares the database (see `controllers`).
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
        identity: ControllerIdentity | None = None,
        observer: RegistryObserver = NO_OBSERVER,
    ) -> None:
        self._database = Database(
            url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            hosts=hosts,
            ssl_ca=ssl_ca,
            timeouts=timeouts,
            observer=observer,
        )
        self._time = RegistryTime(clock or self._database.clock, heartbeat_timeout, watch_absence)
        self._unreadable = DamagedRows(observer)
        self._writer = Writer(self._database, self._time, Capacity(max_instances), self._unreadable, observer=observer)
        self._reader = Reader(self._database, self._time, self._unreadable)
        self._announcer = ExpiryAnnouncer(self._database, self._time)
        self._retention = Retention(self._database, self._time, self._unreadable, self._writer.recount)
        self._max_instances = max_instances
        self._rows: int | None = None
        self._remove_after = remove_after
        self._sharing = SharingControllers(identity, self._time, refresh_interval) if identity else None
        self._refresh_secs = refresh_interval.total_seconds()
        self._queues: _Queues | None = None
        self._background: BackgroundTasks | None = None
        self._database_is_back = asyncio.Event()
        self._announcement_due = asyncio.Event()
        self._closed = False

    async def open(self) -> None:
        if self._queues is None:
            queues = _Queues(self._store, self._reader, self._prune)
            try:
                await queues.run(self._prepare)
            except BaseException:
                await queues.close()
                await asyncio.to_thread(self._database.dispose)
                raise
            self._queues = queues
            if self._time.watch_absence:
                self._background = self._start_background_tasks()
        self._closed = False

    async def close(self) -> None:
        queues, self._queues, self._closed = self._queues, None, True
        self._database.closing = True
        self._database_is_back.set()  # a register that waits for the database waits in vain
        background, self._background = self._background, None
        if background is not None:
            await background.stop()
        if queues is not None:
            await queues.close()
            with suppress(RegistryError):  # the row is forgotten some time later
                await asyncio.to_thread(self._leave)  # no tick is under way that would store the row again
            await asyncio.to_thread(self._database.dispose)

    async def register(
        self, sent: Registration, *, drain: DrainRequest | None = None, actor: Actor = WORKER
    ) -> Lookup | None:
        """Where absence is watched, waits up to REGISTER_DEADLINE_SECS for a database that comes back, also while this
        registry opens: a worker whose register fails ends itself (rule 10).
        """
        command = Register(sent, actor, drain)
        try:
            async with asyncio.timeout(REGISTER_DEADLINE_SECS if self._time.watch_absence else None):
                while True:
                    try:
                        found = await self._write(command)
                    except RegistryUnavailable:
                        if self._closed or not self._time.watch_absence:
                            raise
                        self._database_is_back.clear()
                        await self._database_is_back.wait()
                    else:
                        return found if isinstance(found, Lookup) else None
        except TimeoutError:
            raise self._unavailable() from None

    async def deregister(self, key: InstanceKey, *, remove: bool = False, actor: Actor = WORKER) -> bool:
        return bool(await self._write(Deregister(key, remove, actor)))

    async def heartbeat(self, sent: Registration, *, actor: Actor = WORKER) -> bool:
        return bool(await self._write(Heartbeat(sent, actor)))

    async def drain(
        self,
        key: InstanceKey,
        *,
        reason: str | None = None,
        duration: timedelta | None = None,
        actor: Actor = OPERATOR,
    ) -> Lookup | None:
        found = await self._write(Drain(key, reason, actor, duration))
        return found if isinstance(found, Lookup) else None

    async def undrain(self, key: InstanceKey, *, actor: Actor = OPERATOR) -> Lookup | None:
        found = await self._write(Undrain(key, actor))
        return found if isinstance(found, Lookup) else None

    async def prune(
        self, older_than: timedelta, *, dry_run: bool = False, unchecked: bool = False, actor: Actor = OPERATOR
    ) -> tuple[InstanceKey, ...]:
        call = PruneArguments(Gone(older_than, unchecked), dry_run, actor)
        with self._naming_damage():
            return await self._opened(needs_database=True).prunes.submit(call)

    async def get(self, key: InstanceKey) -> Lookup | None:
        return await self._opened(needs_database=True).lookups.submit(key)

    async def read_events(self, query: EventQuery) -> EventPage:
        return await self._opened(needs_database=True).events.submit(query)

    async def announce(self) -> None:
        await self._run(self._announcer.announce)

    def describe(self) -> RegistryInfo:
        """One of `databases.REGISTRIES`, as the server reports it; before the first connection, as the URL says."""
        return RegistryInfo(self._database.kind, self._database.place, durable=True)

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        """From the last known list while the database is away."""
        queues, query = self._opened(), ListArguments(model_name, healthy_only)
        last_known = self._reader.last_known
        if last_known is not None and not self._database.health.ready:
            return last_known.listing(query, self._time.reported_in_outage())
        try:
            return await (queues.full_lists if model_name is None else queues.model_lists).submit(query)
        except (RegistryUnavailable, RegistryUnusable):
            if last_known is None:
                raise
            return last_known.listing(query, self._time.reported_in_outage())

    async def count(self) -> CountsByModel:
        return await self._run(partial(self._database.read, self._reader.count))

    def health(self) -> RegistryHealth:
        if self._closed:
            return RegistryHealth(ready=False, checks=(Check("database", "the registry is closed"),))
        health, is_up = self._reader.health(), self._database.health.ready
        tables = _joined(self._database.damage, *self._unreadable.reasons)
        if is_up or tables is not None:
            health = health.with_checks(Check("tables", tables))
        if self._sharing and is_up:
            differences = map(str, self._sharing.differences)
            health = health.with_checks(Check("controllers", _joined(*differences, self._sharing.unreadable)))
        return health

    def figures(self) -> RegistryFigures:
        """The instances are counted with each `refresh`, so after at most `refresh_interval` all controllers of the
        database have the same number. It is None while the database is away, and after a `refresh` that failed. The
        offset is measured with each tick.
        """
        queues, is_away = self._queues, not self._database.health.ready
        return RegistryFigures(
            instances=None if is_away else self._rows,
            max_instances=self._max_instances,
            waiting_calls=queues.writes.waiting if queues else 0,
            clock_offset_secs=self._time.clock_offset_secs,
        )

    def controllers(self) -> tuple[ControllerRecord, ...]:
        return self._sharing.living if self._sharing else ()

    async def outages(self) -> tuple[Hold, ...]:
        return tuple(outage.hold(self._time.timeout) for outage in self._time.outages)

    async def tick(self) -> None:
        """Records that this controller lives, and so notices when a database that was away is back. Runs every second
        while open, where absence is watched. If no other controller was faster, this one announces expiries next.
        """
        if await self._opened().run_tick(self._tick):
            self._announcement_due.set()
        self._database_is_back.set()

    async def refresh(self) -> None:
        """Reads all instances for the last known list, and counts them with the tombstones."""
        try:
            await self._opened(needs_database=True).full_lists.submit(ListArguments(None, healthy_only=False))
            self._rows = await self._run(partial(self._database.read, count_rows))
        except RegistryError:
            self._rows = None
            raise

    async def sweep(self) -> int:
        """Forgets old events, and removes all that was gone for longer than `remove_after`; returns how many. Removes
        nothing when another controller has swept a short while ago.
        """
        await self._run(self._retention.forget)
        if self._remove_after is None or not await self._run(self._retention.claim_sweep):
            return 0
        count = 0
        while removed := await self._opened(needs_database=True).run_removal(
            partial(self._retention.sweep_some, self._remove_after)
        ):
            count += removed
        if count:
            log.info(
                "%d instances removed that had been gone for %s",
                count,
                self._remove_after,
                extra={"event": "registry.instances_removed"},
            )
        return count

    def _start_background_tasks(self) -> BackgroundTasks:
        announce = partial(self._run, self._announcer.announce_unless_resting)
        tasks = BackgroundTasks()
        tasks.every(TICK_SECS, self.tick, name="tick")
        tasks.after(self._announcement_due, announce, name="announce expiries")
        tasks.every(self._refresh_secs, self.refresh, name="refresh the last known list", retry_secs=REFRESH_RETRY_SECS)
        tasks.every(SWEEP_SECS, self.sweep, name="sweep", first_after_secs=SWEEP_SECS)
        return tasks

    async def _write(self, command: Command) -> Answer:
        with self._naming_damage():
            return await self._opened().writes.submit(command)

    async def _run(self, work: Callable[[], T]) -> T:
        with self._naming_damage():
            return await self._opened(needs_database=True).run(work)

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        """A value that the database refuses, although the call was checked: a column is not as this release made it."""
        try:
            yield
        except DBAPIError as error:
            said = self._database.dialect.text_of(cause_of(error))
            text = f"database {self._database.used_place}: {said}; `ctl db check` says what to do"
            self._database.note_damage(text)
            raise RegistryUnusable(text) from error

    def _opened(self, *, needs_database: bool = False) -> _Queues:
        """With `needs_database` raises at once while the database is known to be away."""
        if self._queues is None:
            raise RegistryUnavailable(self.health().reason or "the registry is not open")
        if needs_database:
            self._require_database()
        return self._queues

    def _require_database(self) -> None:
        if self._background is not None and not self._database.health.ready:
            raise self._unavailable()  # at once: the tick finds out when the database is back

    def _unavailable(self) -> RegistryUnavailable:
        return RegistryUnavailable(self._database.health.reason or "the database does not answer in time")

    # --- in a thread ---

    def _prepare(self) -> None:
        self._database.prepare()
        if self._time.watch_absence:
            self._database.write(self._renew)

    def _tick(self) -> bool:
        self._database.return_to_better_host(self._time.tick)
        return self._database.write(self._renew)

    def _renew(self, connection: Connection) -> bool:
        if self._sharing:
            self._sharing.keep(connection)
        return self._time.tick(connection)

    def _leave(self) -> None:
        if self._sharing and self._database.health.ready:
            self._database.write(self._sharing.leave)

    def _store(self, commands: Sequence[Command]) -> Sequence[Answer | Exception]:
        self._require_database()
        return self._writer.store(commands)

    def _prune(self, calls: Sequence[PruneArguments]) -> Sequence[PruneAnswer | Exception]:
        self._require_database()
        return self._retention.prune(calls)


def _joined(*reasons: str | None) -> str | None:
    """The reasons in one line; None if there is none."""
    return "; ".join(filter(None, reasons)) or None


class _Queues:
    """The threads of an open registry, and a batcher for each kind of call."""

    def __init__(
        self,
        store: Callable[[Sequence[Command]], Sequence[Answer | Exception]],
        reader: Reader,
        prune: Callable[[Sequence[PruneArguments]], Sequence[PruneAnswer | Exception]],
    ) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ctl-database")
        self._tick_thread = ThreadPoolExecutor(1, thread_name_prefix="ctl-tick")
        self._removal_thread = ThreadPoolExecutor(1, thread_name_prefix="ctl-removals")
        self.writes: Batcher[Command, Answer] = Batcher(partial(isolating_failures, store), self._threads)
        self.model_lists: Batcher[ListArguments, Listing] = Batcher(reader.list_instances, self._threads)
        self.full_lists: Batcher[ListArguments, Listing] = Batcher(reader.list_instances, self._threads)
        self.lookups: Batcher[InstanceKey, Lookup | None] = Batcher(reader.look_up, self._threads)
        self.events: Batcher[EventQuery, EventPage] = Batcher(reader.events, self._threads)
        self.prunes: Batcher[PruneArguments, PruneAnswer] = Batcher(prune, self._removal_thread)

    async def run(self, work: Callable[[], T]) -> T:
        """Runs `work` in one of the threads and returns its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def run_tick(self, work: Callable[[], T]) -> T:
        """As `run`, in the thread of the tick."""
        return await asyncio.get_running_loop().run_in_executor(self._tick_thread, work)

    async def run_removal(self, work: Callable[[], T]) -> T:
        """As `run`, in the thread of the removals, after those that wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._removal_thread, work)

    async def close(self) -> None:
        """Answers the calls that wait and ends the threads: none of them uses a connection then."""
        for batcher in (self.writes, self.model_lists, self.full_lists, self.lookups, self.events, self.prunes):
            await batcher.close()
        for threads in (self._threads, self._tick_thread, self._removal_thread):
            await asyncio.to_thread(threads.shutdown)
