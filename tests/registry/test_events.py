"""What every kind of registry tells of changes: each once, with who and why, in order."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.auth.tokens import MAX_NAME_CHARS
from dbgpt_ctl.domain.events import EXPIRY, Actor, ActorKind, EventFilter
from dbgpt_ctl.domain.instance import InstanceState
from tests.registry.backends import TIMEOUT, changes, sent, transitions

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY = sent().key
OTHER = sent(port=8002)
SILENT = TIMEOUT.total_seconds() + 1
HEALTHY, UNHEALTHY, DEREGISTERED = InstanceState
WORKER = Actor(ActorKind.WORKER, "192.0.2.1")
ALICE = Actor(ActorKind.OPERATOR, "192.0.2.7")
REGISTER = ("absent", "healthy", "register")


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    return await backend.open()


async def flaps(registry: ModelRegistry) -> int:
    found = await registry.get(KEY)
    assert found is not None
    return found.entry.instance.flaps


# --- each change --------------------------------------------------------------------------------------------------


async def test_nothing_is_told_of_nothing(registry: ModelRegistry) -> None:
    page = await registry.events()
    assert (page.events, page.last_id, page.missed) == ((), 0, False)
    assert page.stream


@pytest.mark.parametrize("verb", ["register", "heartbeat"])
@pytest.mark.parametrize("enabled", [True, False])
async def test_a_new_one(registry: ModelRegistry, verb: str, *, enabled: bool) -> None:
    await (registry.register if verb == "register" else registry.heartbeat)(sent(enabled=enabled))
    assert await transitions(registry) == [("absent", "healthy" if enabled else "healthy,drained", verb)]


async def test_who_did_it_from_where_and_when(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent(), actor=WORKER)
    later = clock.advance(1.000001)
    await registry.deregister(KEY, actor=ALICE)
    first, second = await changes(registry)
    assert (first.cause.actor, first.cause.reason) == (backend.reported_actor(WORKER), None)
    assert (second.cause.actor, second.time, second.key) == (backend.reported_actor(ALICE), later, KEY)


async def test_the_name_of_the_token_is_stored_beside_the_address(registry: ModelRegistry, backend: Backend) -> None:
    """Behind a controller the names are those that the controller gives (see tests/registry/test_remote.py)."""
    anna, gpu = ALICE._replace(name="anna"), WORKER._replace(name="gpu")
    await registry.register(sent(), actor=gpu)
    drained = await registry.drain(KEY, reason="new disk", actor=anna)
    await registry.undrain(KEY, actor=ALICE)
    await registry.deregister(KEY, actor=anna)
    actors = [change.cause.actor for change in await changes(registry)]
    assert actors == [backend.reported_actor(actor) for actor in (gpu, anna, ALICE, anna)]
    assert drained is not None
    assert drained.entry.drain is not None
    assert drained.entry.drain.by == backend.reported_actor(anna).caller


async def test_the_longest_name_and_address_are_stored(registry: ModelRegistry, backend: Backend) -> None:
    longest = ALICE._replace(name="n" * MAX_NAME_CHARS, address=f"{'ffff:' * 7}ffff%{'z' * 15}")
    await registry.register(sent(), actor=longest)
    drained = await registry.drain(KEY, actor=longest)
    assert drained is not None
    assert drained.entry.drain is not None
    assert drained.entry.drain.by == backend.reported_actor(longest).caller
    assert [change.cause.actor for change in await changes(registry)] == [backend.reported_actor(longest)] * 2


async def test_a_beat_that_registers_tells_who_sent_it(registry: ModelRegistry, backend: Backend) -> None:
    await registry.heartbeat(sent(), actor=WORKER)
    assert [change.cause.actor for change in await changes(registry)] == [backend.reported_actor(WORKER)]


async def test_a_drain_and_its_end(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent())
    drained = clock.advance(1)
    await registry.drain(KEY, reason="new disk ü🙂", actor=ALICE)
    undrained = clock.advance(1)
    await registry.undrain(KEY, actor=ALICE)
    _, first, second = await changes(registry)
    assert (first.old, first.new, first.cause.verb, first.time) == (HEALTHY, HEALTHY, "drain", drained)
    assert (first.drained, second.drained) == (True, False)
    assert (first.cause.reason, first.cause.actor) == ("new disk ü🙂", backend.reported_actor(ALICE))
    assert (second.old, second.new, second.cause.verb, second.time) == (HEALTHY, HEALTHY, "undrain", undrained)
    assert (second.cause.reason, second.cause.actor) == (None, backend.reported_actor(ALICE))


async def test_a_drain_of_an_unhealthy_one_is_told_though_its_state_stays(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent())
    clock.advance(SILENT)
    await registry.drain(KEY)
    await registry.undrain(KEY)
    assert await transitions(registry) == [
        REGISTER,
        ("healthy", "unhealthy", "expire"),
        ("unhealthy", "unhealthy,drained", "drain"),
        ("unhealthy", "unhealthy", "undrain"),
    ]


async def test_a_drain_of_a_deregistered_one_is_told_though_its_state_stays(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    await registry.drain(KEY)
    assert (await transitions(registry))[2:] == [("deregistered", "deregistered,drained", "drain")]


async def test_a_deregister_and_a_register_that_revives(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    await registry.register(sent())
    await registry.drain(KEY)
    await registry.deregister(KEY)
    await registry.register(sent())
    assert await transitions(registry) == [
        REGISTER,
        ("healthy", "deregistered", "deregister"),
        ("deregistered", "healthy", "register"),
        ("healthy", "healthy,drained", "drain"),
        ("healthy", "deregistered,drained", "deregister"),
        ("deregistered", "healthy,drained", "register"),
    ]


async def test_a_removal_and_a_return(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    await registry.register(sent())
    assert await transitions(registry) == [REGISTER, ("healthy", "absent", "deregister"), REGISTER]


async def test_a_removal_of_a_deregistered_one(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    await registry.deregister(KEY, remove=True)
    assert (await transitions(registry))[2:] == [("deregistered", "absent", "deregister")]


async def test_a_pruned_one_is_gone(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    pruned = clock.advance(3600)
    await registry.prune(timedelta(minutes=1), actor=ALICE)
    last = (await changes(registry))[-1]
    assert (last.key, last.old, last.new, last.cause.verb) == (KEY, DEREGISTERED, "absent", "prune")
    assert (last.cause.actor, last.time) == (backend.reported_actor(ALICE), pruned)


async def test_a_silent_one_expires_before_it_is_pruned(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    clock.advance(3600)
    await registry.prune(timedelta(minutes=1))
    assert await transitions(registry) == [
        REGISTER,
        ("healthy", "unhealthy", "expire"),
        ("unhealthy", "absent", "prune"),
    ]


# --- no change, no event ------------------------------------------------------------------------------------------


async def test_what_changes_no_state_is_not_told(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    clock.advance(1)
    await registry.heartbeat(sent())
    await registry.register(sent(weight=3.0))
    await registry.undrain(KEY)
    assert await transitions(registry) == [REGISTER]


@pytest.mark.parametrize("remove", [False, True])
async def test_a_repeated_deregister_and_a_refused_beat_are_not_told(registry: ModelRegistry, *, remove: bool) -> None:
    await registry.register(sent())
    for _ in range(3):
        await registry.deregister(KEY, remove=remove)
        await registry.heartbeat(sent())
    assert len(await transitions(registry)) == 2


async def test_a_repeated_drain_is_not_told(registry: ModelRegistry) -> None:
    await registry.register(sent())
    for reason in ("new disk", None, "new disk"):
        await registry.drain(KEY, reason=reason)
    assert [change.cause.reason for change in await changes(registry)] == [None, "new disk"]


async def test_what_was_refused_is_not_told(registry: ModelRegistry) -> None:
    await registry.deregister(KEY)
    await registry.drain(KEY)
    await registry.undrain(KEY)
    assert await transitions(registry) == []


async def test_a_forgotten_tombstone_is_not_told(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.deregister(KEY, remove=True)
    clock.advance(2 * SILENT)
    await registry.announce()
    await registry.heartbeat(sent())
    assert await transitions(registry) == [
        REGISTER,
        ("healthy", "absent", "deregister"),
        ("absent", "healthy", "heartbeat"),
    ]


# --- expiry -------------------------------------------------------------------------------------------------------


async def test_an_expiry_is_told_once_at_the_exact_time(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.register(sent())
    beat = clock.advance(12.345678)
    await registry.heartbeat(sent())
    clock.advance(TIMEOUT.total_seconds())
    await backend.announce()
    assert await transitions(registry) == [REGISTER], "a beat exactly the timeout old is fresh"
    for _ in range(3):
        clock.advance(0.75)
        await backend.announce()
    _, expiry = await changes(registry)
    assert (expiry.old, expiry.new, expiry.cause.verb) == (HEALTHY, UNHEALTHY, "expire")
    assert (expiry.time, expiry.key) == (beat + TIMEOUT, KEY)
    assert expiry.cause == (expiry.cause.verb, EXPIRY, None)


async def test_a_drained_one_expires_too(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent())
    await registry.drain(KEY)
    clock.advance(SILENT)
    await backend.announce()
    await registry.heartbeat(sent())
    assert (await transitions(registry))[2:] == [
        ("healthy", "unhealthy,drained", "expire"),
        ("unhealthy", "healthy,drained", "heartbeat"),
    ]


@pytest.mark.parametrize("late", [False, True])
async def test_whoever_comes_back_is_told_to_have_been_away(
    registry: ModelRegistry, backend: Backend, clock: ManualClock, *, late: bool
) -> None:
    """Also when nobody looked meanwhile."""
    beat = clock.now()
    await registry.register(sent())
    clock.advance(SILENT)
    if not late:
        await backend.announce()
    back = clock.advance(5)
    await registry.heartbeat(sent(), actor=WORKER)
    await backend.announce()
    assert [(change.old, change.new, change.cause.verb, change.time) for change in (await changes(registry))[1:]] == [
        (HEALTHY, UNHEALTHY, "expire", beat + TIMEOUT),
        (UNHEALTHY, HEALTHY, "heartbeat", back),
    ]


@pytest.mark.parametrize("verb", ["register", "deregister", "remove"])
async def test_an_expiry_is_told_before_what_comes_after(
    registry: ModelRegistry, clock: ManualClock, verb: str
) -> None:
    beat = clock.now()
    await registry.register(sent())
    clock.advance(SILENT)
    if verb == "register":
        await registry.register(sent())
    else:
        await registry.deregister(KEY, remove=verb == "remove")
    _, expiry, after = await changes(registry)
    new = {"register": "healthy", "deregister": "deregistered", "remove": "absent"}[verb]
    assert (expiry.new, expiry.time) == (UNHEALTHY, beat + TIMEOUT)
    assert (after.old, after.new) == (UNHEALTHY, new)


async def test_who_is_not_checked_or_has_left_does_not_expire(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.register(sent(port=1, check_healthy=False))
    await registry.register(sent(port=2))
    await registry.deregister(sent(port=2).key)
    await registry.register(sent(port=3))
    await registry.deregister(sent(port=3).key, remove=True)
    clock.advance(SILENT)
    await backend.announce()
    assert "expire" not in [verb for _, _, verb in await transitions(registry)]


async def test_expiries_are_told_in_order_of_time(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    for port in (3, 1, 2):
        await registry.register(sent(port=port))
        clock.advance(1)
    await registry.heartbeat(sent(port=3))
    clock.advance(2 * SILENT)
    await backend.announce()
    assert [change.key.port for change in (await changes(registry))[3:]] == [1, 2, 3]


async def test_flaps_are_counted(registry: ModelRegistry, backend: Backend, clock: ManualClock) -> None:
    await registry.register(sent())
    for count in range(3):
        assert await flaps(registry) == count
        clock.advance(SILENT)
        await backend.announce()
        await backend.announce()
        assert await flaps(registry) == count + 1
        await registry.heartbeat(sent())
    await registry.deregister(KEY)
    await registry.register(sent())
    assert await flaps(registry) == 3, "from its first register on"


async def test_nothing_is_told_while_states_are_held(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(watch_absence=True)
    await registry.register(sent())
    clock.advance(2 * SILENT)  # no tick in all that time: it was away
    await backend.announce()
    assert await transitions(registry) == [REGISTER]
    await registry.heartbeat(sent())
    assert await transitions(registry) == [REGISTER], "no event reported that it was away"


# --- asking for them ----------------------------------------------------------------------------------------------


async def test_ids_rise_by_one(registry: ModelRegistry) -> None:
    for port in range(1, 6):
        await registry.register(sent(port=port))
    page = await registry.events()
    assert [event.id for event in page.events] == list(range(page.last_id - 4, page.last_id + 1))
    assert [event.change.key.port for event in page.events] == [1, 2, 3, 4, 5]


async def test_after_an_id_come_the_first_beyond_it(registry: ModelRegistry) -> None:
    for port in range(1, 6):
        await registry.register(sent(port=port))
    ids = [event.id for event in (await registry.events()).events]
    assert await found(registry, after=ids[1]) == [3, 4, 5]
    assert await found(registry, after=ids[1], limit=2) == [3, 4]
    assert await found(registry, after=ids[4]) == []
    assert await found(registry, after=ids[0] - 1) == [1, 2, 3, 4, 5]


async def test_without_an_id_the_last_come(registry: ModelRegistry) -> None:
    for port in range(1, 6):
        await registry.register(sent(port=port))
    assert await found(registry, limit=2) == [4, 5]
    assert await found(registry, limit=9) == [1, 2, 3, 4, 5]


async def test_since_a_time(registry: ModelRegistry, clock: ManualClock) -> None:
    for port in range(1, 6):
        await registry.register(sent(port=port))
        clock.advance(1)
    ids = [event.id for event in (await registry.events()).events]
    since = clock.now() - timedelta(seconds=3)
    assert await found(registry, where=EventFilter(since=since)) == [3, 4, 5]
    assert await found(registry, where=EventFilter(since=since), limit=2) == [4, 5]
    assert await found(registry, where=EventFilter(since=since), after=ids[3]) == [5]
    assert await found(registry, where=EventFilter(since=since), after=ids[0], limit=1) == [3]


async def test_of_one_instance(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.register(OTHER)
    await registry.deregister(KEY)
    await registry.deregister(OTHER.key)
    await registry.register(sent())
    where = EventFilter.of(KEY)
    page = await registry.events(where=where)
    assert [(event.change.key, event.change.cause.verb) for event in page.events] == [
        (KEY, "register"),
        (KEY, "deregister"),
        (KEY, "register"),
    ]
    assert page.last_id == page.events[-1].id
    assert [event.change.cause.verb for event in (await registry.events(where=where, limit=1)).events] == ["register"]
    first = page.events[0].id
    assert [event.id for event in (await registry.events(where=where, after=first, limit=1)).events] == [
        page.events[1].id
    ]
    assert (await registry.events(where=EventFilter.of(sent(port=1).key))).events == ()


@pytest.mark.parametrize("twin", ["Qwen@llm", "qwén@llm", "qwen@llm2"])
async def test_of_one_instance_and_not_of_its_twin(registry: ModelRegistry, twin: str) -> None:
    await registry.register(sent(twin))
    assert (await registry.events(where=EventFilter.of(KEY))).events == ()


async def test_nothing_is_missed_of_what_is_kept(registry: ModelRegistry) -> None:
    await registry.register(sent())
    await registry.deregister(KEY)
    newest = (await registry.events()).last_id
    for after in (newest, newest - 1, newest - 2):
        page = await registry.events(after=after)
        assert (page.missed, page.last_id, len(page.events)) == (False, newest, newest - after)


async def test_beyond_the_newest_something_else_was_counted(registry: ModelRegistry) -> None:
    await registry.register(sent())
    page = await registry.events(after=(await registry.events()).last_id + 1)
    assert (page.missed, page.events) == (True, ())


async def test_the_stream_stays_the_same(registry: ModelRegistry) -> None:
    before = (await registry.events()).stream
    await registry.register(sent())
    assert (await registry.events(after=0)).stream == before


async def found(registry: ModelRegistry, **asked: object) -> list[int]:
    """The ports of the instances that the events are of."""
    return [event.change.key.port for event in (await registry.events(**asked)).events]  # type: ignore[arg-type]
