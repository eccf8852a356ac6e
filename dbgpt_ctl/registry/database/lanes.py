"""The threads of a database registry that is open, and what waits for them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.database.group_commit import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.domain.commands import Command
    from dbgpt_ctl.domain.events import EventPage
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import Lookup
    from dbgpt_ctl.registry.database.reads import Reads
    from dbgpt_ctl.registry.database.tables.events import EventQuery

Answer: TypeAlias = "bool | Lookup | None"
"""Of a write: whether it did what it was meant to; of a drain and an undrain: the instance, None for none in a list."""
T = TypeVar("T")
Query = tuple[str | None, bool]
"""A model's name, None for all, and whether only routable instances are wanted."""
THREADS = 9
"""One for each lane, and for the tick, the announcements, the sweep, and what an operator asks for."""


class Lanes:
    """Writes, lists of models, lists of all, single instances, events: each lane has at most one batch under way."""

    def __init__(self, commit: Callable[[Sequence[Command]], Sequence[Answer | Exception]], reads: Reads) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ctl-database")
        self.writes = GroupCommit["Command", Answer](commit, self._threads)
        self.models = GroupCommit[Query, Listing](reads.list, self._threads)
        self.all = GroupCommit[Query, Listing](reads.list, self._threads)
        self.single: GroupCommit[InstanceKey, Lookup | None] = GroupCommit(reads.get, self._threads)
        self.events: GroupCommit[EventQuery, EventPage] = GroupCommit(reads.events, self._threads)

    async def run(self, work: Callable[[], T]) -> T:
        """Does `work` in one of the threads and gives its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self, last: Callable[[], None]) -> None:
        """Answers what waits, ends the threads and then does `last`: no thread holds a connection any more."""
        for lane in (self.writes, self.models, self.all, self.single, self.events):
            await lane.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(last)
