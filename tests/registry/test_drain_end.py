"""A drain for a time, held against every kind of registry: nobody ends it, every answer derives its end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import EXPIRY, Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainFacts
from tests.registry.backends import DATABASES, TIMEOUT, changes, only, sent, states, transitions, with_drain

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY, OTHER = sent().key, sent(port=8002).key
QWEN = str(KEY)
MICROSECOND = timedelta(microseconds=1).total_seconds()
HALF = TIMEOUT / 2
ALICE = Actor(ActorKind.OPERATOR, "192.0.2.7")
REGISTER = ("absent", "healthy", "register")
DRAIN = ("healthy", "healthy,drained", "drain")
END = ("healthy", "healthy", "undrain")
EXPIRE = ("healthy", "unhealthy", "expire")


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    """Knows one instance."""
    registry = await backend.open()
    await registry.register(sent())
    return registry


async def found(registry: ModelRegistry) -> tuple[str, DrainFacts | None]:
    """The state of the instance with its drain, as `get` returns it, and as the list does."""
    lookup = await registry.get(KEY)
    assert lookup is not None
    entry = await only(registry)
    assert (entry.state, entry.drain, entry.routable) == (lookup.entry.state, lookup.entry.drain, lookup.entry.routable)
    return with_drain(entry.state, drained=entry.drain is not None), entry.drain


async def routable(registry: ModelRegistry) -> list[tuple[str, str]]:
    """As API servers ask, of one model and of all."""
    of_all = await states(registry, healthy_only=True)
    assert await states(registry, "qwen@llm", healthy_only=True) == of_all
    return of_all


def end_of(change: Change) -> tuple[datetime, str, str, bool]:
    assert (change.cause.verb, change.cause.actor, change.cause.reason) == ("undrain", EXPIRY, None)
    return change.time, change.old, change.new, change.drained


# --- the end is derived -------------------------------------------------------------------------------------------


async def test_a_drain_is_over_exactly_at_its_end_in_every_answer(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    since = clock.advance(1.000001)
    lookup = await registry.drain(KEY, reason="new disk", duration=HALF, actor=ALICE)
    drain = DrainFacts(since, backend.reported_actor(ALICE).address, "new disk", since + HALF)
    assert lookup is not None
    assert (lookup.entry.drain, lookup.entry.routable) == (drain, False)
    clock.advance(HALF.total_seconds() - MICROSECOND)
    assert await found(registry) == ("healthy,drained", drain)
    assert await routable(registry) == []
    clock.advance(MICROSECOND)
    assert await found(registry) == ("healthy", None)
    assert await routable(registry) == [(QWEN, "healthy")]


async def test_a_drain_of_a_silent_and_of_a_deregistered_one_ends_too(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    await registry.register(sent(port=8002))
    for key in (KEY, OTHER):
        await registry.drain(key, duration=2 * TIMEOUT)
    await registry.deregister(OTHER)
    clock.advance(2 * TIMEOUT.total_seconds() - MICROSECOND)
    assert [state for _, state in await states(registry)] == ["unhealthy,drained", "deregistered,drained"]
    clock.advance(MICROSECOND)
    assert [state for _, state in await states(registry)] == ["unhealthy", "deregistered"]
    assert await registry.heartbeat(sent())
    assert await routable(registry) == [(QWEN, "healthy")]


async def test_another_drain_replaces_the_end_and_keeps_begin_and_reason(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    since = clock.now()
    by = backend.reported_actor(ALICE).address
    await registry.drain(KEY, reason="new disk", duration=HALF, actor=ALICE)
    later = clock.advance(5)
    for duration, until in ((TIMEOUT, later + TIMEOUT), (HALF, later + HALF), (None, None)):
        await registry.drain(KEY, duration=duration, actor=ALICE)
        assert await found(registry) == ("healthy,drained", DrainFacts(since, by, "new disk", until))
    clock.advance(HALF.total_seconds())
    assert await routable(registry) == [], "without a duration it has no end"
    now = clock.now()
    await registry.drain(KEY, duration=HALF, actor=ALICE)
    clock.advance(HALF.total_seconds())
    await registry.heartbeat(sent())
    assert await routable(registry) == [(QWEN, "healthy")], now


async def test_one_that_registered_as_disabled_is_drained_since_nobody_knows_and_may_get_an_end(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.deregister(KEY, remove=True)
    await registry.register(sent(enabled=False))
    assert await found(registry) == ("healthy,drained", DrainFacts())
    await registry.drain(KEY, duration=HALF, actor=ALICE)
    by, until = backend.reported_actor(ALICE).address, clock.now() + HALF
    assert await found(registry) == ("healthy,drained", DrainFacts(None, by, None, until))
    clock.advance(HALF.total_seconds())
    assert await found(registry) == ("healthy", None)


async def test_a_drain_after_the_end_of_one_is_a_new_one(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.drain(KEY, reason="new disk", duration=HALF)
    until = clock.advance(HALF.total_seconds())
    await registry.drain(KEY, actor=ALICE)
    by = backend.reported_actor(ALICE).address
    assert await found(registry) == ("healthy,drained", DrainFacts(until, by, None, None))
    assert (await transitions(registry))[1:] == [DRAIN, END, DRAIN]


async def test_an_undrain_ends_it_early_and_no_end_follows(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.drain(KEY, duration=HALF)
    clock.advance(1)
    assert await registry.undrain(KEY)
    assert await routable(registry) == [(QWEN, "healthy")]
    clock.advance(HALF.total_seconds())
    await backend.announce()
    assert [change.cause.actor.kind for change in await changes(registry)] == ["worker", "operator", "operator"]


async def test_an_undrain_after_the_end_changes_nothing(registry: ModelRegistry, clock: ManualClock) -> None:
    await registry.drain(KEY, duration=HALF)
    clock.advance(HALF.total_seconds())
    assert await registry.undrain(KEY)
    assert (await transitions(registry))[1:] == [DRAIN, END]
    assert end_of((await changes(registry))[-1])[0] == clock.now()


# --- its event ----------------------------------------------------------------------------------------------------


async def test_the_end_is_one_event_with_the_time_of_the_end(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.drain(KEY, duration=HALF)
    until = clock.now() + HALF
    clock.advance(HALF.total_seconds() - MICROSECOND)
    await backend.announce()
    assert (await transitions(registry))[1:] == [DRAIN], "it is not over yet"
    for seconds in (12.345678, 1, 1):
        clock.advance(seconds)
        await backend.announce()
    *_, end = await changes(registry)
    assert end_of(end) == (until, "healthy", "healthy", False)
    assert (await transitions(registry))[1:] == [DRAIN, END]
    assert await found(registry) == ("healthy", None)


async def test_of_two_controllers_that_announce_it_at_the_same_time_one_writes_it(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    if backend.kind in DATABASES:
        await backend.open()
    for port in range(1, 51):
        await registry.register(sent(port=port))
    await asyncio.gather(*(registry.drain(sent(port=port).key, duration=HALF) for port in range(1, 51)))
    until = clock.now() + HALF
    before = (await registry.events(limit=1)).last_id
    clock.advance(HALF.total_seconds() + 5)
    await asyncio.gather(*(decides.announce() for decides in backend.deciding * 3), registry.undrain(sent(port=1).key))
    await backend.announce()
    ends = await changes(registry, after=before)
    assert sorted(change.key.port for change in ends) == list(range(1, 51))
    assert {end_of(change) for change in ends} == {(until, "healthy", "healthy", False)}


async def test_a_drain_for_another_time_or_another_reason_is_an_event(
    registry: ModelRegistry, clock: ManualClock
) -> None:
    for reason, duration in (
        ("new disk", None),
        (None, HALF),
        (None, TIMEOUT),
        ("new board", TIMEOUT),
        (None, TIMEOUT),
        ("new board", None),
        (None, None),
    ):
        await registry.drain(KEY, reason=reason, duration=duration)
    found = (await changes(registry))[1:]
    assert [change.cause.reason for change in found] == ["new disk", None, None, "new board", "new board"]
    assert {(change.old, change.new, change.drained, change.time) for change in found} == {
        ("healthy", "healthy", True, clock.now())
    }


@pytest.mark.parametrize(
    ("drained_for", "expected"),
    [
        pytest.param(HALF, [END, EXPIRE], id="the drain ends first"),
        pytest.param(TIMEOUT, [END, EXPIRE], id="at the same time"),
        pytest.param(
            TIMEOUT + HALF,
            [("healthy", "unhealthy,drained", "expire"), ("unhealthy", "unhealthy", "undrain")],
            id="the heartbeat gets too old first",
        ),
    ],
)
@pytest.mark.parametrize("by", ["announce", "heartbeat"])
async def test_an_expiry_and_the_end_of_a_drain_are_told_in_order_of_time(
    registry: ModelRegistry,
    backend: Backend,
    clock: ManualClock,
    drained_for: timedelta,
    expected: list[tuple[str, str, str]],
    *,
    by: str,
) -> None:
    began = clock.now()
    await registry.drain(KEY, duration=drained_for)
    back = clock.advance(3 * TIMEOUT.total_seconds())
    if by == "announce":
        await backend.announce()
    await registry.heartbeat(sent())
    assert (await transitions(registry))[2:] == [*expected, ("unhealthy", "healthy", "heartbeat")]
    times = sorted([began + TIMEOUT, began + drained_for])
    assert [change.time for change in (await changes(registry))[2:]] == [*times, back]


@pytest.mark.parametrize("drained_for", [HALF, TIMEOUT + HALF])
async def test_of_an_expiry_and_the_end_of_a_drain_the_later_one_is_told_after_the_other(
    registry: ModelRegistry, backend: Backend, clock: ManualClock, drained_for: timedelta
) -> None:
    began = clock.now()
    await registry.drain(KEY, duration=drained_for)
    first, second = sorted([TIMEOUT, drained_for])
    clock.advance(first.total_seconds() + 1)
    await backend.announce()
    assert [change.time for change in (await changes(registry))[2:]] == [began + first]
    clock.advance((second - first).total_seconds())
    await backend.announce()
    assert [change.time for change in (await changes(registry))[2:]] == [began + first, began + second]


async def test_those_of_several_instances_are_told_in_order_of_time(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    began = clock.now()
    for port, seconds in ((1, 45), (2, 15), (3, 70)):
        await registry.register(sent(port=port, check_healthy=False))
        await registry.drain(sent(port=port).key, duration=timedelta(seconds=seconds))
    await registry.drain(KEY, duration=timedelta(seconds=75))
    before = (await registry.events(limit=1)).last_id
    clock.advance(80)
    await backend.announce()
    found = [
        (change.key.port, (change.time - began).total_seconds()) for change in await changes(registry, after=before)
    ]
    assert found == [(2, 15), (1, 45), (8001, 60), (3, 70), (8001, 75)]


# --- calls between the end and its event --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("register", []),
        ("heartbeat", []),
        ("deregister", [("healthy", "deregistered", "deregister")]),
        ("remove", [("healthy", "absent", "deregister")]),
    ],
)
async def test_a_call_after_the_end_comes_after_its_event(
    registry: ModelRegistry, backend: Backend, clock: ManualClock, verb: str, expected: list[tuple[str, str, str]]
) -> None:
    await registry.drain(KEY, reason="new disk", duration=HALF)
    until = clock.now() + HALF
    clock.advance(HALF.total_seconds() + 1)
    match verb:
        case "register":
            await registry.register(sent(weight=3.0, enabled=False))
        case "heartbeat":
            assert await registry.heartbeat(sent(enabled=False))
        case _:
            assert await registry.deregister(KEY, remove=verb == "remove")
    assert "drained" not in str(await states(registry))
    await backend.announce()
    assert (await transitions(registry))[1:] == [DRAIN, END, *expected]
    assert end_of((await changes(registry))[2])[0] == until


async def test_a_removed_one_comes_back_without_its_drain(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    await registry.drain(KEY, duration=HALF)
    await registry.deregister(KEY, remove=True)
    clock.advance(HALF.total_seconds() + 1)
    await backend.announce()
    await registry.register(sent())
    assert (await transitions(registry))[1:] == [DRAIN, ("healthy", "absent", "deregister"), REGISTER]
    assert await found(registry) == ("healthy", None)


@pytest.mark.parametrize("gone", ["silent", "deregistered"])
@pytest.mark.parametrize("announced", [False, True])
async def test_prune_spares_a_drained_one_until_its_drain_is_over(
    registry: ModelRegistry, backend: Backend, clock: ManualClock, gone: str, *, announced: bool
) -> None:
    await registry.drain(KEY, duration=timedelta(hours=2))
    if gone == "deregistered":
        await registry.deregister(KEY)
    clock.advance(timedelta(hours=2).total_seconds() - MICROSECOND)
    assert await registry.prune(timedelta(hours=1)) == ()
    clock.advance(MICROSECOND)
    if announced:
        await backend.announce()
    assert await registry.prune(timedelta(hours=1), dry_run=True) == (KEY,)
    assert await registry.prune(timedelta(hours=1)) == (KEY,)
    state = "unhealthy" if gone == "silent" else gone
    assert (await transitions(registry))[-2:] == [(state, state, "undrain"), (state, "absent", "prune")]


# --- outages and restarts -----------------------------------------------------------------------------------------


async def test_a_drain_ends_while_states_are_held(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(watch_absence=True)
    await registry.register(sent())
    await registry.register(sent(port=8002))
    for key, duration in ((KEY, HALF), (OTHER, 3 * TIMEOUT)):
        await registry.drain(key, duration=duration)
    until = clock.now() + HALF
    clock.advance(2 * TIMEOUT.total_seconds())  # no tick in all that time: the registry was away
    listing = await registry.list()
    assert [(entry.state, entry.drain is not None, entry.held) for entry in listing.entries] == [
        ("healthy", False, True),
        ("healthy", True, True),
    ]
    assert listing.held_until is not None
    assert await routable(registry) == [(QWEN, "healthy")]
    await backend.announce()
    assert [end_of(change) for change in (await changes(registry))[4:]] == [(until, "healthy", "healthy", False)]


@pytest.mark.parametrize("kind", DATABASES)
async def test_a_drain_in_a_database_outlives_the_process_and_ends_when_it_would_have(
    registry: ModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    since = clock.now()
    await registry.drain(KEY, reason="new disk", duration=HALF, actor=ALICE)
    await registry.close()
    backend.deciding.clear()
    clock.advance(HALF.total_seconds() - 1)
    after = await backend.open()
    assert await found(after) == ("healthy,drained", DrainFacts(since, ALICE.address, "new disk", since + HALF))
    await after.close()
    backend.deciding.clear()
    clock.advance(2)
    last = await backend.open()
    assert await found(last) == ("healthy", None)
    await backend.announce()
    assert end_of((await changes(last))[-1]) == (since + HALF, "healthy", "healthy", False)
