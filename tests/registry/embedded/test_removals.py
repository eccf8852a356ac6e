"""Removals in memory are done in turns: other calls are served between them, and their effect is seen."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from dbgpt_ctl.registry.embedded import registry as embedded
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import TIMEOUT, sent, states
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)
COUNT = 50


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(autouse=True)
def _few_per_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "EXAMINED_PER_TURN", 3)


async def long_gone(clock: ManualClock, *, watch_absence: bool = False) -> EmbeddedModelRegistry:
    """A registry of COUNT instances that have been silent for two hours."""
    registry = EmbeddedModelRegistry(
        clock=clock, heartbeat_timeout=TIMEOUT, watch_absence=watch_absence, remove_after=HOUR
    )
    for port in range(1, COUNT + 1):
        await registry.register(sent(port=port))
    for _ in range(2 * 3600):
        clock.advance(1)
        registry.tick()
    return registry


async def test_what_comes_back_during_a_prune_stays(clock: ManualClock) -> None:
    registry = await long_gone(clock)
    prune = asyncio.create_task(registry.prune(HOUR))
    await asyncio.sleep(0)
    assert len(await states(registry)) == COUNT - 3, "the first turn is over"
    await registry.heartbeat(sent(port=COUNT))
    await registry.drain(sent(port=COUNT - 1).key)
    assert [key.port for key in await prune] == list(range(1, COUNT - 1)), "what it removed, and nothing else"
    assert len(await states(registry)) == 2


async def test_a_prune_ends_when_states_are_held(clock: ManualClock) -> None:
    async with await long_gone(clock, watch_absence=True) as registry:
        prune = asyncio.create_task(registry.prune(HOUR))
        await asyncio.sleep(0)
        clock.advance(30)
        registry.tick()
        assert [key.port for key in await prune] == [1, 2, 3]
        assert len(await states(registry)) == COUNT - 3


async def test_a_prune_ends_when_the_registry_is_closed(clock: ManualClock) -> None:
    registry = await long_gone(clock)
    prune = asyncio.create_task(registry.prune(HOUR))
    await asyncio.sleep(0)
    await registry.close()
    assert [key.port for key in await prune] == [1, 2, 3]


async def test_prunes_and_sweeps_follow_one_another(clock: ManualClock) -> None:
    registry = await long_gone(clock)
    first, second, swept = await asyncio.gather(registry.prune(HOUR), registry.prune(HOUR), registry.sweep())
    assert (len(first), len(second), swept) == (COUNT, 0, 0)
