"""A task that runs as long as a block lasts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


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
