"""How late the event loop is: whatever blocks it delays every request."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dbgpt_ctl.background import background_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

EVERY_SECS = 1.0
KEPT = 30


class LoopLag:
    """Measures once in `every_secs` how late a task wakes, and keeps the last KEPT measurements.

    A delay that begins and ends between two measurements is not seen, so long delays are, and short ones only if there
    are many. A process that was stopped was late too.
    """

    def __init__(self, *, every_secs: float = EVERY_SECS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_secs = every_secs
        self._monotonic = monotonic
        self._last: deque[float] = deque(maxlen=KEPT)

    @property
    def seconds(self) -> float:
        """The largest of the measurements that are kept; 0.0 before the first one."""
        return max(self._last, default=0.0)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Measures until the block is left."""
        async with background_task(self._measure(), "event loop lag"):
            yield

    async def _measure(self) -> None:
        while True:
            due = self._monotonic() + self._every_secs
            await asyncio.sleep(self._every_secs)
            self._last.append(max(0.0, self._monotonic() - due))
