"""A register that drains too, held against every kind of registry: one call, one change, one event."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainFacts, DrainRequest
from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable
from tests.registry.backends import TIMEOUT, changes, only, sent, states, transitions

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY = sent().key
QWEN = str(KEY)
HOUR = timedelta(hours=1)
ALICE = Actor(ActorKind.OPERATOR, "192.0.2.7")
DISK = DrainRequest("new disk ü🙂", HOUR)


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    return await backend.open()


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_new_instance_is_drained_with_all_facts_by_one_event(
    registry: ModelRegistry, backend: Backend, clock: ManualClock, *, enabled: bool
) -> None:
    now, actor = clock.now(), backend.reported_actor(ALICE)
    values = sent(weight=2.5, check_healthy=False, prompt_template="vicuna", enabled=enabled)
    lookup = await registry.register(values, drain=DISK, actor=ALICE)
    assert lookup is not None
    entry = await only(registry)
    assert lookup.entry == entry
    assert (entry.state, entry.routable, entry.drain) == (
        "healthy",
        False,
        DrainFacts(now, actor.address, DISK.reason, now + HOUR),
    )
    facts = entry.instance
    assert (facts.weight, facts.check_healthy, facts.prompt_template) == (2.5, False, "vicuna")
    assert await states(registry, healthy_only=True) == await states(registry, "qwen@llm", healthy_only=True) == []
    (change,) = await changes(registry)
    assert (change.old, change.new, change.drained) == ("absent", "healthy", True)
    assert change.cause == ("register", actor, DISK.reason)


async def test_without_reason_and_end_it_is_drained_until_an_undrain(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.register(sent(), drain=DrainRequest(), actor=ALICE)
    assert (await only(registry)).drain == DrainFacts(clock.now(), backend.reported_actor(ALICE).address, None, None)
    clock.advance(HOUR.total_seconds())
    assert (await only(registry)).drain is not None
    await registry.undrain(KEY)
    assert (await only(registry)).drain is None


async def test_a_known_instance_is_updated_and_drained_by_one_event(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent())
    now = clock.advance(1)
    await registry.register(sent(weight=2.5), drain=DISK, actor=ALICE)
    entry = await only(registry)
    assert entry.drain is not None
    assert (entry.instance.weight, entry.drain.reason, entry.instance.last_heartbeat) == (2.5, DISK.reason, now)
    assert (await transitions(registry))[1:] == [("healthy", "healthy,drained", "register")]


async def test_a_deregistered_instance_comes_back_drained(registry: ModelRegistry) -> None:
    for remove in (False, True):
        await registry.register(sent())
        await registry.deregister(KEY, remove=remove)
        await registry.register(sent(), drain=DISK)
        assert await states(registry) == [(QWEN, "healthy,drained")]
        assert (await transitions(registry))[-1][1:] == ("healthy,drained", "register")
        await registry.deregister(KEY, remove=True)


async def test_repeated_it_replaces_the_end_and_keeps_the_begin(registry: ModelRegistry, clock: ManualClock) -> None:
    since = clock.now()
    await registry.register(sent(), drain=DISK)
    clock.advance(1)
    await registry.register(sent(), drain=DrainRequest())
    drain = (await only(registry)).drain
    assert drain is not None
    assert (drain.since, drain.reason, drain.until) == (since, DISK.reason, None)


async def test_the_drain_ends_by_itself(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent(check_healthy=False), drain=DISK)
    clock.advance(HOUR.total_seconds())
    assert await states(registry, healthy_only=True) == [(QWEN, "healthy")]
    await backend.announce()
    assert (await transitions(registry))[-1] == ("healthy", "healthy", "undrain")


async def test_its_worker_does_not_end_the_drain(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(), drain=DISK)
    clock.advance(TIMEOUT.total_seconds() / 2)
    await registry.heartbeat(sent(enabled=True))
    assert await registry.register(sent(enabled=True)) is None
    assert await states(registry) == [(QWEN, "healthy,drained")]


async def test_no_list_shows_it_routable_among_calls_of_its_worker(registry: ModelRegistry) -> None:
    """Its worker may register and send heartbeats in the same moment."""
    seen: list[tuple[str, str]] = []

    async def look() -> None:
        seen.extend(await states(registry, healthy_only=True))

    await registry.register(sent(), drain=DISK)
    await asyncio.gather(
        registry.heartbeat(sent()),
        registry.register(sent()),
        registry.register(sent(), drain=DrainRequest()),
        look(),
        registry.heartbeat(sent()),
        look(),
    )
    assert seen == []
    assert await states(registry) == [(QWEN, "healthy,drained")]


async def test_it_needs_room_as_any_register(backend: Backend) -> None:
    registry = await backend.open(max_instances=1)
    await registry.register(sent(port=1))
    with pytest.raises(RegistryFull):
        await registry.register(sent(), drain=DISK)
    await registry.register(sent(port=1), drain=DISK)
    assert await states(registry) == [("qwen@llm/10.0.0.4:1", "healthy,drained")]


async def test_a_closed_registry_refuses_it(backend: Backend) -> None:
    registry = await backend.open()
    await registry.close()
    with pytest.raises(RegistryUnavailable, match="closed"):
        await registry.register(sent(), drain=DISK)
