"""Events of the embedded registry over outages and a clock that steps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.domain.events import ActorKind
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import TIMEOUT, changes, sent, transitions
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY = sent().key
REGISTER = ("absent", "healthy", "register")
EXPIRE = ("healthy", "unhealthy", "expire")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def registry_of(clock: ManualClock) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, watch_absence=True)


def alive(registry: EmbeddedModelRegistry, clock: ManualClock, seconds: int) -> None:
    """Lets time pass while the registry ticks."""
    for _ in range(seconds):
        clock.advance(1)
        registry.tick()


# --- expiry -------------------------------------------------------------------------------------------------------


async def test_a_tick_announces_expiries(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        beat = clock.now()
        await registry.register(sent())
        alive(registry, clock, 60)
        assert await transitions(registry) == [REGISTER]
        alive(registry, clock, 3)
        assert await transitions(registry) == [REGISTER, EXPIRE]
        assert (await changes(registry))[-1].time == beat + TIMEOUT


async def test_heartbeats_postpone_an_expiry(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        for _ in range(10):
            alive(registry, clock, 50)
            await registry.heartbeat(sent())
        beat = clock.now()
        alive(registry, clock, 61)
        assert [change.time for change in (await changes(registry))[1:]] == [beat + TIMEOUT]


async def test_a_tick_checks_a_limited_number_of_instances(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgpt_ctl.registry.embedded.registry.CHECKS_PER_TICK", 2)
    async with registry_of(clock) as registry:
        for port in range(1, 6):
            await registry.register(sent(port=port))
        expired = []
        alive(registry, clock, 60)
        for _ in range(4):
            alive(registry, clock, 1)
            expired.append(len(await transitions(registry)) - 5)
        assert expired == [2, 4, 5, 5]
        assert len({change.time for change in (await changes(registry))[5:]}) == 1


async def test_a_held_instance_that_stays_silent_expires_when_the_hold_ends(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        await registry.register(sent(port=1))
        clock.advance(90)
        registry.tick()
        back = clock.now()
        await registry.heartbeat(sent(port=1))
        alive(registry, clock, 59)
        assert len(await transitions(registry)) == 2
        alive(registry, clock, 1)
        assert [(change.key, change.time) for change in (await changes(registry))[2:]] == [(KEY, back + TIMEOUT)]


async def test_an_expiry_before_the_outage_is_announced_although_others_are_held(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        beat = clock.now()
        await registry.register(sent())
        alive(registry, clock, 30)
        await registry.register(sent(port=1))
        for _ in range(31):  # the registry works, but announces nothing
            clock.advance(1)
            registry._state.tick(clock.now())
        clock.advance(90)
        registry.tick()
        assert [(change.key, change.time) for change in (await changes(registry))[2:]] == [(KEY, beat + TIMEOUT)]


async def test_a_clock_that_is_set_back_postpones_no_expiry(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        alive(registry, clock, 50)
        clock.advance(-3600)
        registry.tick()
        alive(registry, clock, 10)
        assert await transitions(registry) == [REGISTER]
        alive(registry, clock, 1)
        assert await transitions(registry) == [REGISTER, EXPIRE]
        assert (await changes(registry))[-1].time == clock.now() - timedelta(seconds=1)


async def test_a_heartbeat_by_a_clock_that_was_set_back_expires_by_that_clock(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    await registry.register(sent())
    clock.advance(-3600)
    await registry.heartbeat(sent())
    beat = clock.now()
    clock.advance(61)
    await registry.announce()
    assert [change.time for change in (await changes(registry))[1:]] == [beat + TIMEOUT]


# --- what has long been gone --------------------------------------------------------------------------------------


async def test_a_sweep_writes_an_event_for_each_removal(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, remove_after=timedelta(hours=1))
    await registry.register(sent())
    await registry.register(sent(port=1))
    await registry.deregister(sent(port=1).key, remove=True)
    clock.advance(3601)
    assert await registry.sweep() == 2, "the tombstone too"
    last = await changes(registry)
    assert (last[-1].old, last[-1].new, last[-1].cause.verb) == ("unhealthy", "absent", "prune")
    assert (last[-1].cause.actor.kind, last[-1].cause.actor.address) == (ActorKind.HOUSEKEEPING, None)
    assert [change.key for change in last].count(sent(port=1).key) == 2, "no event for a tombstone"


# --- drains ----------------------------------------------------------------------------------------------------------


async def test_the_end_of_a_drain_is_announced_by_the_tick_that_follows(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        await registry.drain(KEY, duration=timedelta(seconds=90))
        for _ in range(9):  # its heartbeats move its deadline, which stays the end of the drain
            alive(registry, clock, 10)
            await registry.heartbeat(sent())
        assert [verb for _, _, verb in await transitions(registry)] == ["register", "drain", "undrain"]
        assert (await changes(registry))[-1].time == clock.now()
        assert [instance.drain for instance in registry._state.index.instances()] == [None]


async def test_two_registries_have_two_streams() -> None:
    pages = [await EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT).events() for _ in range(2)]
    assert pages[0].stream != pages[1].stream
