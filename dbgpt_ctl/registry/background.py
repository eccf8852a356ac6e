"""What a database registry that is open does by itself, second by second."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.registry_outage import TICK_SECS
from dbgpt_ctl.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Chores"]

log = logging.getLogger(__name__)

SWEEP_TICKS = 60


class Chores:
    """`tick` every second; after one that tells so, `announce`; now and then `sweep`. A tick waits for nobody: a late
    one would look as if the registry had been away.
    """

    def __init__(
        self,
        tick: Callable[[], Awaitable[bool]],
        announce: Callable[[], Awaitable[None]],
        sweep: Callable[[], Awaitable[object]],
    ) -> None:
        self._tick = tick
        self._announce = announce
        self._sweep = sweep
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins, in the running event loop."""
        self._tasks = [
            asyncio.create_task(self._keep_ticking(), name="tick"),
            asyncio.create_task(self._keep_announcing(), name="announce"),
        ]

    async def stop(self) -> None:
        """Returns when nothing is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _keep_ticking(self) -> None:
        ticks = 0
        while True:
            if await _well(self._tick, "a tick"):
                self._due.set()
            ticks += 1
            if ticks % SWEEP_TICKS == 0:
                await _well(self._sweep, "a sweep")
            await asyncio.sleep(TICK_SECS)

    async def _keep_announcing(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            await _well(self._announce, "telling who expired")


async def _well(chore: Callable[[], Awaitable[object]], name: str) -> object:
    """What it gives, None when it fails. Whatever the error is, it must not end the loop: nobody else finds out that
    all is well again.
    """
    try:
        return await chore()
    except RegistryError:
        return None  # health tells of it, and the log
    except Exception:
        log.exception("%s failed", name)
        return None
