"""Tasks beside the requests: work that is repeated, and a task that runs as long as a block lasts."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine


log = logging.getLogger(__name__)


class BackgroundTasks:
    """Each piece of work has a task of its own in the running event loop, so none delays another.

    An error ends no task. A RegistryError is not logged: the health of the registry reports it.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(
        self,
        interval_secs: float,
        work: Callable[[], Awaitable[object]],
        *,
        name: str,
        first_after_secs: float = 0.0,
        retry_secs: float | None = None,
    ) -> None:
        """Does `work`, rests for `interval_secs`, and so on; after a failure it rests for `retry_secs` if that is given
        and shorter.
        """

        async def repeat() -> None:
            await asyncio.sleep(first_after_secs)
            while True:
                done = await _attempt(work, name)
                rest = interval_secs if done or retry_secs is None else min(retry_secs, interval_secs)
                await asyncio.sleep(rest)

        self._start(repeat(), name)

    def after(self, event: asyncio.Event, work: Callable[[], Awaitable[object]], *, name: str) -> None:
        """Does `work` each time that `event` is set, and clears the event before."""

        async def follow() -> None:
            while True:
                await event.wait()
                event.clear()
                await _attempt(work, name)

        self._start(follow(), name)

    async def stop(self) -> None:
        """Cancels all tasks and returns when they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def _start(self, endless: Coroutine[None, None, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(endless, name=name))


async def _attempt(work: Callable[[], Awaitable[object]], name: str) -> bool:
    try:
        await work()
    except RegistryError:
        return False
    except Exception:  # any other error too must not end the task: nothing else finds out when all is well again
        log.exception("background task %r failed", name)
        return False
    return True


@asynccontextmanager
async def background_task(endless: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Runs `endless` until the block is left, and returns when it has ended. It has to deal with its errors itself: an
    error ends the task and not the block.

    `asyncio.TaskGroup` is for tasks whose errors end the block.
    """
    task = asyncio.create_task(endless, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
