"""The threads of a database registry that is open, and what waits for them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from dbgpt_ctl.registry import Listing
from dbgpt_ctl.registry.batch import GroupCommit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.registry.writes import Call

T = TypeVar("T")
Query = tuple[str | None, bool]
"""A model's name, None for all, and whether only routable instances are wanted."""
THREADS = 4
"""One for each lane, and one for the tick."""


class Lanes:
    """Writes, lists of models, lists of all: each lane has at most one batch under way."""

    def __init__(
        self,
        commit: Callable[[Sequence[Call]], Sequence[bool | Exception]],
        list_: Callable[[Sequence[Query]], Sequence[Listing]],
    ) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ctl-database")
        self.writes = GroupCommit["Call", bool](commit, self._threads)
        self.models = GroupCommit[Query, Listing](list_, self._threads)
        self.all = GroupCommit[Query, Listing](list_, self._threads)

    async def run(self, work: Callable[[], T]) -> T:
        """Does `work` in one of the threads and gives its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self, last: Callable[[], None]) -> None:
        """Answers what waits, does `last` and ends the threads."""
        for lane in (self.writes, self.models, self.all):
            await lane.close()
        await self.run(last)
        self._threads.shutdown()
