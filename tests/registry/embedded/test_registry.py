"""The embedded registry after an outage: frozen, or its clock was set (rule 8)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import with_drain
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    import pytest

TIMEOUT = timedelta(seconds=60)
LIVE = Registration(InstanceKey("qwen@llm", "10.0.0.4", 8001))
DEAD = LIVE._replace(key=LIVE.key._replace(port=8002))
DRAINED = LIVE._replace(key=LIVE.key._replace(port=8003), enabled=False)
GONE = LIVE._replace(key=LIVE.key._replace(port=8004))


def registry_of(clock: ManualClock) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, watch_absence=True)


async def states(registry: EmbeddedModelRegistry) -> dict[int, str]:
    return {
        entry.instance.key.port: with_drain(entry.state, drained=entry.drain is not None)
        for entry in (await registry.list()).entries
    }


def test_a_frozen_process_expires_no_instance_that_was_alive_when_it_froze(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(clock) as registry:
            await registry.register(DEAD)
            for _ in range(61):
                tick(registry, clock)
            await registry.register(LIVE)
            clock.advance(90)  # frozen: no tick in between
            assert await states(registry) == {8001: "healthy", 8002: "unhealthy"}
            listing = await registry.list(healthy_only=True)
            assert listing.held_until is not None
            tick(registry, clock, 0)
            assert "the registry was away from" in str(registry.health().reason)
            assert registry.health().ready
            for _ in range(59):
                tick(registry, clock)
            assert await states(registry) == {8001: "healthy", 8002: "unhealthy"}
            tick(registry, clock)
            assert await states(registry) == {8001: "unhealthy", 8002: "unhealthy"}, "it never beat again"
            assert registry.health().reason is None

    asyncio.run(scenario())
    assert caplog.text.count("states are held as they were") == 1


def test_a_heartbeat_ends_the_hold_of_its_instance() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(clock) as registry:
            await registry.register(LIVE)
            clock.advance(90)
            assert (await registry.list()).held_until is not None
            assert await registry.heartbeat(LIVE)
            assert (await registry.list()).held_until is None
            tick(registry, clock, 0)
            assert registry.health().reason is None

    asyncio.run(scenario())


def test_health_reports_no_hold_that_a_list_of_all_shows_to_be_over() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(clock) as registry:
            await registry.register(LIVE)
            clock.advance(90)
            tick(registry, clock, 0)
            assert registry.health().reason
            await registry.list("nobody@llm")
            assert registry.health().reason, "the list of a model shows only its own instances"
            await registry.heartbeat(LIVE)
            await registry.list()
            assert registry.health().reason is None

    asyncio.run(scenario())


def test_a_clock_that_is_set_back_keeps_ages_as_they_are() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(clock) as registry:
            await registry.register(DEAD)
            for _ in range(50):
                tick(registry, clock)
            await registry.register(LIVE)
            tick(registry, clock, -3600)
            assert await states(registry) == {8001: "healthy", 8002: "healthy"}
            for _ in range(11):
                tick(registry, clock)
            assert await states(registry) == {8001: "healthy", 8002: "unhealthy"}, "it had been silent for 61 s"
            for _ in range(50):
                tick(registry, clock)
            assert await states(registry) == {8001: "unhealthy", 8002: "unhealthy"}

    asyncio.run(scenario())


def test_without_a_gap_the_last_silent_worker_expires() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(clock) as registry:
            await registry.register(LIVE)
            for _ in range(61):
                tick(registry, clock)
            assert await states(registry) == {8001: "unhealthy"}

    asyncio.run(scenario())


def tick(registry: EmbeddedModelRegistry, clock: ManualClock, seconds: float = 1) -> None:
    """One tick, without the time of the registry's loop."""
    clock.advance(seconds)
    registry.tick()
