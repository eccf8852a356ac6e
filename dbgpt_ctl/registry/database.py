"""The registry in a database: SQLite, MySQL, MariaDB. Several controllers may share one."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.instance import InstanceState, ListedInstance, state_of
from dbgpt_ctl.registry import Listing, ModelRegistry, RegistryHealth
from dbgpt_ctl.registry.batch import GroupCommit, each_its_own
from dbgpt_ctl.registry.engine import DatabaseTimeouts
from dbgpt_ctl.registry.room import Room
from dbgpt_ctl.registry.rows import listed_rows, time_of
from dbgpt_ctl.registry.transactions import Database
from dbgpt_ctl.registry.writes import Beat, Deregister, Register, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import timedelta

    from sqlalchemy import URL, Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.instance import InstanceKey, Registration
    from dbgpt_ctl.registry.writes import Call

__all__ = ["DatabaseModelRegistry", "DatabaseTimeouts"]

_Query = tuple[str | None, bool]
"""A model's name, None for all, and whether only routable instances are wanted."""


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
        timeouts: DatabaseTimeouts | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self._database = Database(
            url,
            pool_size=pool_size,
            max_overflow=max_overflow,
            timeouts=timeouts or DatabaseTimeouts(),
            randomness=randomness or random.Random(),  # noqa: S311 - spreads retries, guards nothing
        )
        self._timeout = heartbeat_timeout
        self._clock = SystemClock() if clock is None and self._database.is_sqlite else clock
        self._room = Room(max_instances)
        self._lanes: _Lanes | None = None
        self._closed = False

    async def open(self) -> None:
        if self._lanes is None:
            lanes = _Lanes(self._commit, self._list)
            try:
                await lanes.run(self._database.prepare)
            except BaseException:
                await lanes.close(self._database.dispose)
                raise
            self._lanes = lanes
        self._closed = False

    async def close(self) -> None:
        lanes, self._lanes, self._closed = self._lanes, None, True
        if lanes is not None:
            await lanes.close(self._database.dispose)

    async def register(self, sent: Registration) -> None:
        await self._write(Register(sent))

    async def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        return await self._write(Deregister(key, remove))

    async def heartbeat(self, sent: Registration) -> bool:
        return await self._write(Beat(sent))

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        lanes = self._opened()
        return await (lanes.all if model_name is None else lanes.models).submit((model_name, healthy_only))

    def health(self) -> RegistryHealth:
        return RegistryHealth(ready=False, reason="the registry is closed") if self._closed else self._database.health

    async def _write(self, call: Call) -> bool:
        return await self._opened().writes.submit(call)

    def _opened(self) -> _Lanes:
        if self._lanes is None:
            raise RegistryUnavailable(self.health().reason or "the registry is not open")
        return self._lanes

    def _commit(self, calls: Sequence[Call]) -> Sequence[bool | Exception]:
        return each_its_own(self._commit_together, calls)

    def _commit_together(self, calls: Sequence[Call]) -> Sequence[bool | Exception]:
        answers = self._database.write(partial(self._transact, calls))
        self._room.settle()
        return answers

    def _transact(self, calls: Sequence[Call], connection: Connection) -> Sequence[bool | Exception]:
        self._room.begin()
        return Transaction(connection, clock=self._clock, timeout=self._timeout, room=self._room).run(calls)

    def _list(self, queries: Sequence[_Query]) -> Sequence[Listing]:
        answers = self._database.read(partial(self._listings, set(queries)))
        return [answers[query] for query in queries]

    def _listings(self, queries: Collection[_Query], connection: Connection) -> dict[_Query, Listing]:
        """One answer per query: either models by name, or all instances."""
        names = {name for name, _ in queries if name is not None}
        now = time_of(connection, self._clock)
        found = listed_rows(connection, names or None)
        entries = [ListedInstance(each, state_of(each, now, self._timeout)) for each in found]
        shelves: dict[str | None, list[ListedInstance]] = {None: entries}
        if names:
            shelves = {name: list(shelf) for name, shelf in groupby(entries, lambda each: each.instance.key.model_name)}
        return {query: _listing(shelves.get(query[0], []), healthy_only=query[1]) for query in queries}


def _listing(entries: Sequence[ListedInstance], *, healthy_only: bool) -> Listing:
    return Listing(
        tuple(each for each in entries if each.state is InstanceState.HEALTHY) if healthy_only else tuple(entries)
    )


class _Lanes:
    """The threads of an open registry and what waits for them."""

    def __init__(
        self,
        commit: Callable[[Sequence[Call]], Sequence[bool | Exception]],
        list_: Callable[[Sequence[_Query]], Sequence[Listing]],
    ) -> None:
        self._threads = ThreadPoolExecutor(3, thread_name_prefix="ctl-database")
        self.writes = GroupCommit["Call", bool](commit, self._threads)
        self.models = GroupCommit[_Query, Listing](list_, self._threads)
        self.all = GroupCommit[_Query, Listing](list_, self._threads)

    async def run(self, work: Callable[[], None]) -> None:
        """Does `work` in one of the threads."""
        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self, last: Callable[[], None]) -> None:
        """Answers what waits, does `last` and ends the threads."""
        for lane in (self.writes, self.models, self.all):
            await lane.close()
        await self.run(last)
        self._threads.shutdown()
