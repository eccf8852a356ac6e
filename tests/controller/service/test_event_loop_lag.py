"""How late the event loop is."""

from __future__ import annotations

import asyncio
import time
from itertools import chain, repeat

from dbgpt_ctl.controller.service.event_loop_lag import KEPT, LoopLag

BLOCK_SECS = 0.5
EVERY_SECS = 0.05


def test_a_call_that_blocks_the_loop_is_seen() -> None:
    async def scenario() -> None:
        lag = LoopLag(every_secs=EVERY_SECS)
        assert lag.seconds == 0.0
        async with lag.measured():
            await asyncio.sleep(0)  # it waits for its next measurement
            time.sleep(BLOCK_SECS)  # noqa: ASYNC251 - the mistake that it is to find
            async with asyncio.timeout(20):
                while not lag.seconds:
                    await asyncio.sleep(0.005)
        assert lag.seconds >= BLOCK_SECS - EVERY_SECS

    asyncio.run(scenario())


def test_an_old_delay_is_forgotten() -> None:
    """Each measurement looks at the clock twice: the first one takes 3 s, the others no time."""
    looks = 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return next(times)

    times = chain([0.0, 3.0], repeat(3.0))
    lag = LoopLag(every_secs=0.0, monotonic=monotonic)

    async def scenario() -> list[float]:
        seen: list[float] = []
        async with lag.measured(), asyncio.timeout(20):
            while looks <= 2 * (KEPT + 1):
                await asyncio.sleep(0)
                seen.append(lag.seconds)
        return seen

    seen = asyncio.run(scenario())
    assert max(seen) == 3.0
    assert seen[-1] == 0.0
