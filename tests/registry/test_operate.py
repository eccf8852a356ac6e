"""What operators do to instances (get, drain, undrain, prune), held against every kind of registry."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable
from tests.registry.backends import TIMEOUT, only, sent, states, transitions, with_drain

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import ListedInstance
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

QWEN = "qwen@llm/10.0.0.4:8001"
KEY = sent().key
HEALTHY, UNHEALTHY, DEREGISTERED = InstanceState
SILENT = TIMEOUT.total_seconds() + 1
HOUR = timedelta(hours=1)
ALICE = Actor(ActorKind.OPERATOR, "192.0.2.7")


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    return await backend.open()


async def found(registry: ModelRegistry) -> ListedInstance:
    lookup = await registry.get(KEY)
    assert lookup is not None
    return lookup.entry


async def state(registry: ModelRegistry) -> str:
    entry = await found(registry)
    return with_drain(entry.state, drained=entry.drain is not None)


async def drain_of(registry: ModelRegistry) -> DrainFacts:
    drain = (await found(registry)).drain
    assert drain is not None
    return drain


# --- get ----------------------------------------------------------------------------------------------------------


async def test_get_of_what_never_was(registry: ModelRegistry) -> None:
    await registry.register(sent(port=1))
    assert await registry.get(KEY) is None


async def test_get_tells_all_facts(registry: ModelRegistry, clock: ManualClock) -> None:
    registered = clock.now()
    await registry.register(sent(weight=2.5, prompt_template="vicuna"))
    beaten = clock.advance(1.25)
    await registry.heartbeat(sent())
    entry = await found(registry)
    facts = entry.instance
    assert facts.key == KEY
    assert (facts.weight, facts.prompt_template, facts.check_healthy) == (2.5, "vicuna", True)
    assert (facts.registered_at, facts.last_heartbeat) == (registered, beaten)
    assert (facts.deregistered_at, facts.refused_at, facts.flaps, facts.removed) == (None, None, 0, False)
    assert (facts.drain, entry.drain) == (None, None)


async def test_get_tells_each_state(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    assert await state(registry) == HEALTHY
    await registry.drain(KEY)
    assert await state(registry) == "healthy,drained"
    clock.advance(SILENT)
    assert await state(registry) == "unhealthy,drained"
    await registry.deregister(KEY)
    assert await state(registry) == "deregistered,drained"
    await registry.undrain(KEY)
    assert await state(registry) == DEREGISTERED


async def test_get_tells_a_refused_beat(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    left = clock.advance(1)
    await registry.deregister(KEY)
    refused = clock.advance(1)
    await registry.heartbeat(sent())
    entry = await found(registry)
    assert (entry.instance.deregistered_at, entry.instance.refused_at) == (left, refused)


async def test_get_finds_a_removed_one_until_it_is_forgotten(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    clock.advance(TIMEOUT.total_seconds())
    entry = await found(registry)
    assert (entry.instance.removed, entry.state) == (True, DEREGISTERED)
    clock.advance(0.000001)
    assert await registry.get(KEY) is None


# --- drain and undrain --------------------------------------------------------------------------------------------


async def test_a_drained_one_is_not_routable_and_an_undrained_one_is(registry: ModelRegistry) -> None:
    await registry.register(sent())
    assert await registry.drain(KEY)
    assert await states(registry) == await states(registry, "qwen@llm") == [(QWEN, "healthy,drained")]
    assert await states(registry, healthy_only=True) == await states(registry, "qwen@llm", healthy_only=True) == []
    assert await registry.undrain(KEY)
    assert await states(registry, healthy_only=True) == [(QWEN, "healthy")]


async def test_drain_and_undrain_return_the_instance_as_it_is_afterwards(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.register(sent(weight=2.5))
    clock.advance(1)
    drained = await registry.drain(KEY, reason="new disk", actor=ALICE)
    assert drained is not None
    assert drained.entry == await found(registry)
    by = backend.reported_actor(ALICE).address
    assert (drained.entry.state, drained.entry.drain) == (HEALTHY, DrainFacts(clock.now(), by, "new disk", None))
    undrained = await registry.undrain(KEY)
    assert undrained is not None
    assert undrained.entry == await found(registry)
    assert (undrained.entry.state, undrained.entry.drain) == (HEALTHY, None)


async def test_a_lookup_reports_until_when_the_state_is_held(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(watch_absence=True)
    await registry.register(sent())
    back = clock.advance(2 * SILENT)  # no tick in all that time: the registry was away
    for lookup in (await registry.get(KEY), await registry.drain(KEY), await registry.undrain(KEY)):
        assert lookup is not None
        assert lookup.entry.is_healthy
        assert lookup.held_until == back + TIMEOUT
    await registry.heartbeat(sent())
    lookup = await registry.get(KEY)
    assert lookup is not None
    assert lookup.held_until is None


async def test_a_drain_touches_one_only(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.register(sent(port=8002))
    await registry.drain(KEY)
    assert await states(registry, healthy_only=True) == [("qwen@llm/10.0.0.4:8002", "healthy")]


async def test_a_drain_survives_whatever_its_worker_says(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.drain(KEY, reason="new disk")
    clock.advance(1)
    await registry.heartbeat(sent(enabled=True))
    await registry.register(sent(enabled=True))
    await registry.deregister(KEY)
    await registry.register(sent(enabled=True))
    clock.advance(SILENT)
    await registry.heartbeat(sent(enabled=True))
    assert await states(registry) == [(QWEN, "healthy,drained")]
    assert (await drain_of(registry)).reason == "new disk"


async def test_a_drain_tells_who_when_and_why(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent())
    drained = clock.advance(1)
    await registry.drain(KEY, reason='new disk; "ü🙂"', actor=ALICE)
    entry = await found(registry)
    by = backend.reported_actor(ALICE).address
    assert entry.drain == entry.instance.drain == DrainFacts(drained, by, 'new disk; "ü🙂"', None)


async def test_an_undrain_leaves_nothing_of_the_drain(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.drain(KEY, reason="new disk", actor=ALICE)
    await registry.undrain(KEY)
    entry = await found(registry)
    assert (entry.drain, entry.instance.drain) == (None, None)


async def test_a_repeated_drain_keeps_time_and_reason(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    drained = clock.now()
    await registry.drain(KEY, reason="new disk")
    clock.advance(5)
    assert await registry.drain(KEY)
    assert (await drain_of(registry))[::2] == (drained, "new disk")


async def test_a_repeated_drain_may_give_another_reason(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    drained = clock.now()
    await registry.drain(KEY, reason="new disk")
    clock.advance(5)
    assert await registry.drain(KEY, reason="new board")
    assert (await drain_of(registry))[::2] == (drained, "new board")


async def test_a_repeated_undrain_is_safe(registry: ModelRegistry) -> None:
    await registry.register(sent())
    assert await registry.undrain(KEY)
    assert await registry.undrain(KEY)
    assert await states(registry) == [(QWEN, "healthy")]


async def test_one_that_registered_as_disabled_can_be_undrained(registry: ModelRegistry) -> None:
    await registry.register(sent(enabled=False))
    assert await registry.undrain(KEY)
    await registry.register(sent(enabled=False))
    assert await states(registry) == [(QWEN, "healthy")]


@pytest.mark.parametrize("verb", ["drain", "undrain"])
async def test_what_is_in_no_list_is_not_drained(registry: ModelRegistry, verb: str) -> None:
    call = registry.drain if verb == "drain" else registry.undrain
    assert await call(KEY) is None
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    assert await call(KEY) is None
    await registry.register(sent())
    assert await states(registry) == [(QWEN, "healthy")]


async def test_a_deregistered_one_that_is_drained_comes_back_drained(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    assert await registry.drain(KEY)
    assert await state(registry) == "deregistered,drained"
    assert await registry.heartbeat(sent()) is False, "a drain revives nobody"
    await registry.register(sent())
    assert await state(registry) == "healthy,drained"


async def test_an_unhealthy_one_that_is_drained_beats_again_drained(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent())
    clock.advance(SILENT)
    assert await registry.drain(KEY)
    assert await state(registry) == "unhealthy,drained"
    assert await registry.heartbeat(sent()) is True
    assert await state(registry) == "healthy,drained"


async def test_a_drain_is_no_beat(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    beat = clock.now()
    clock.advance(30)
    await registry.drain(KEY)
    await registry.undrain(KEY)
    assert (await only(registry)).instance.last_heartbeat == beat


# --- prune --------------------------------------------------------------------------------------------------------


async def test_prune_forgets_what_was_gone_for_longer(registry: ModelRegistry, clock: ManualClock) -> None:
    for host in ("deregistered", "dead"):
        await registry.register(sent(host=host))
    await registry.deregister(sent(host="deregistered").key)
    clock.advance(HOUR.total_seconds())
    await registry.register(sent(host="late"))
    clock.advance(HOUR.total_seconds())
    await registry.register(sent(host="alive"))
    pruned = await registry.prune(timedelta(minutes=90))
    assert pruned == (sent(host="dead").key, sent(host="deregistered").key), "in order of identity"
    left = [reference for reference, _ in await states(registry)]
    assert left == ["qwen@llm/alive:8001", "qwen@llm/late:8001"]
    assert await registry.prune(timedelta(minutes=90)) == ()
    assert await registry.get(sent(host="dead").key) is None


async def test_what_was_pruned_is_new_when_it_comes_back(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(weight=1.0))
    await registry.deregister(KEY)
    clock.advance(HOUR.total_seconds())
    await registry.prune(timedelta(minutes=1))
    assert await registry.deregister(KEY) is False
    assert await registry.heartbeat(sent(weight=2.0)) is True
    assert (await only(registry)).instance.weight == 2.0


async def test_a_dry_run_only_tells(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    clock.advance(2 * HOUR.total_seconds())
    assert await registry.prune(HOUR, dry_run=True) == (KEY,)
    assert await states(registry) == [(QWEN, "unhealthy")]
    assert "prune" not in [verb for _, _, verb in await transitions(registry)]


async def test_prune_never_takes_what_is_drained(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent(host="dead"))
    await registry.register(sent(host="deregistered"))
    await registry.register(sent(host="asked", enabled=False))
    for host in ("dead", "deregistered"):
        await registry.drain(sent(host=host).key)
    await registry.deregister(sent(host="deregistered").key)
    clock.advance(2 * HOUR.total_seconds())
    assert await registry.prune(HOUR) == ()
    assert len(await states(registry)) == 3


async def test_prune_never_takes_what_beats(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.register(sent(host="unchecked", check_healthy=False))
    clock.advance(TIMEOUT.total_seconds())
    assert await registry.prune(timedelta()) == ()
    clock.advance(1)
    assert await registry.prune(timedelta()) == (KEY,)


async def test_prune_never_takes_a_deregistered_one_that_was_heard_of_since(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    clock.advance(2 * HOUR.total_seconds())
    await registry.heartbeat(sent())
    assert await registry.prune(HOUR) == ()


async def test_prune_leaves_tombstones_to_their_duty(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    clock.advance(1)
    assert await registry.prune(timedelta()) == ()
    assert await registry.heartbeat(sent()) is False


async def test_prune_takes_an_unchecked_one_only_where_it_is_asked_to(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    """It counts as healthy for ever: a static registration, or a worker that is no more."""
    beating, silent, drained = (sent(port=port, check_healthy=False) for port in (1, 2, 3))
    for registration in (beating, silent, drained):
        await registry.register(registration)
    await registry.drain(drained.key)
    clock.advance(HOUR.total_seconds())
    await registry.heartbeat(beating)
    clock.advance(TIMEOUT.total_seconds())
    assert await registry.prune(HOUR) == ()
    assert await registry.prune(2 * HOUR, unchecked=True) == (), "its last heartbeat is younger"
    assert await registry.prune(HOUR, unchecked=True, dry_run=True) == (silent.key,)
    assert await registry.prune(timedelta(), unchecked=True) == (silent.key,), "one that sends heartbeats stays"
    assert (await transitions(registry))[-1] == ("healthy", "absent", "prune")
    assert {reference for reference, _ in await states(registry)} == {str(beating.key), str(drained.key)}


async def test_a_full_registry_has_room_as_soon_as_a_prune_is_over(backend: Backend, clock: ManualClock) -> None:
    """A worker whose register is refused ends itself."""
    registry = await backend.open(max_instances=2)
    for port in (1, 2):
        await registry.register(sent(port=port))
    clock.advance(2 * HOUR.total_seconds())
    with pytest.raises(RegistryFull):
        await registry.register(sent(port=3))
    await registry.prune(HOUR)
    for port in (3, 4):
        await registry.register(sent(port=port))


async def test_prunes_at_the_same_time_remove_each_instance_once(registry: ModelRegistry, clock: ManualClock) -> None:
    for port in range(1, 40):
        await registry.register(sent(port=port))
    clock.advance(2 * HOUR.total_seconds())
    calls = [registry.prune(HOUR, dry_run=number % 3 == 0) for number in range(12)]
    answers = await asyncio.gather(*calls)
    removed = [key for number, keys in enumerate(answers) if number % 3 for key in keys]
    assert len(removed) == len(set(removed)) == 39
    assert await states(registry) == []


async def test_prune_takes_nobody_while_states_are_held(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(watch_absence=True)
    await registry.register(sent())
    await registry.register(sent(port=1))
    await registry.deregister(sent(port=1).key)
    clock.advance(2 * HOUR.total_seconds())  # no tick in all that time: it was away
    for dry_run in (False, True):
        with pytest.raises(RegistryUnavailable, match="nothing is removed until"):
            await registry.prune(HOUR, dry_run=dry_run)
    assert await registry.get(KEY) is not None


# --- the registry itself ------------------------------------------------------------------------------------------


async def test_a_closed_registry_refuses_these_calls_too(backend: Backend) -> None:
    registry = await backend.open()
    await registry.close()
    calls = (
        registry.get(KEY),
        registry.drain(KEY),
        registry.undrain(KEY),
        registry.prune(HOUR),
        registry.events(),
    )
    for call in calls:
        with pytest.raises(RegistryUnavailable, match="closed"):
            await call


async def test_it_tells_what_it_is(registry: ModelRegistry, backend: Backend) -> None:
    info = registry.describe()
    assert info.kind == backend.kind
    assert info.durable == (backend.kind != "embedded"), "what is behind a controller outlives this process"
    assert (info.place is None) == (backend.kind == "embedded")
