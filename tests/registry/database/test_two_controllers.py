"""Two controllers on one database write one event per change, in the order of the changes, without gaps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import ABSENT, EXPIRE, Actor, ActorKind
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, sent
from tests.support.clock import ManualClock
from tests.support.observer import RecordingObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import InstanceKey, Registration
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.support.database_server import PrivateDatabase

pytestmark = pytest.mark.anyio

CHANGES = 500
EVERYBODY = [sent(f"m{number % 3}@llm", port=number) for number in range(1, 41)]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def observer() -> RecordingObserver:
    """Of both registries together."""
    return RecordingObserver()


@pytest.fixture
async def pair(
    database: PrivateDatabase, clock: ManualClock, observer: RecordingObserver
) -> AsyncIterator[list[DatabaseModelRegistry]]:
    async with AsyncExitStack() as stack:
        registries = [
            DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT, clock=clock, observer=observer)
            for _ in range(2)
        ]
        yield [await stack.enter_async_context(registry) for registry in registries]


class Reader:
    """Polls one of the registries, a few events at a time, from the first on."""

    def __init__(self, registry: ModelRegistry) -> None:
        self.events: list[Event] = []
        self._registry = registry

    async def poll(self) -> int:
        """Tells how many it got."""
        after = self.events[-1].id if self.events else 0
        page = await self._registry.events(after=after, limit=7)
        assert not page.missed
        self.events += page.events
        return len(page.events)

    async def keep_polling(self) -> None:
        while True:
            await self.poll()


@asynccontextmanager
async def reading(registries: list[DatabaseModelRegistry]) -> AsyncIterator[list[Reader]]:
    """Two readers of each registry; at the end each has read all."""
    readers = [Reader(registry) for registry in registries * 2]
    tasks = [asyncio.create_task(reader.keep_polling()) for reader in readers]
    try:
        yield readers
    finally:
        for task in tasks:
            task.cancel()
        failed = [
            error for error in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(error, Exception)
        ]
    assert not failed
    for reader in readers:
        while await reader.poll():
            pass


def act(chance: random.Random, registry: ModelRegistry, who: Registration) -> Coroutine[Any, Any, object]:
    actor = Actor(ActorKind.OPERATOR, "10.0.0.9")
    verbs: list[Callable[[], Coroutine[Any, Any, object]]] = [
        partial(registry.register, who),
        partial(registry.heartbeat, who),
        partial(registry.deregister, who.key),
        partial(registry.deregister, who.key, remove=True),
        partial(registry.drain, who.key, reason="a new disk", actor=actor),
        partial(registry.undrain, who.key, actor=actor),
        registry.announce,
        partial(registry.prune, TIMEOUT),
    ]
    return chance.choice(verbs)()


async def test_concurrent_changes_are_events_once_and_in_order(
    pair: list[DatabaseModelRegistry], clock: ManualClock, observer: RecordingObserver
) -> None:
    chance = random.Random(4711)
    async with reading(pair) as readers:
        for _ in range(10):
            for _ in range(5):
                acts = [act(chance, chance.choice(pair), chance.choice(EVERYBODY)) for _ in range(50)]
                await asyncio.gather(*acts)
                clock.advance(TIMEOUT.total_seconds() / 4)
            await asyncio.gather(*(registry.announce() for registry in pair))
    first, *others = [reader.events for reader in readers]
    assert len(first) >= CHANGES
    assert [event.id for event in first] == list(range(1, len(first) + 1))
    for other in others:
        assert other == first
    assert Counter(observer.changes) == Counter(event.change for event in first), "each was told once, by one of both"
    await assert_a_chain(first, pair[0])


async def assert_a_chain(events: list[Event], registry: ModelRegistry) -> None:
    """Each change of an instance begins where the one before ended, the last at its state now."""
    chains: defaultdict[InstanceKey, list[Event]] = defaultdict(list)
    for event in events:
        chains[event.change.key].append(event)
    listed = {entry.instance.key: entry for entry in (await registry.list()).entries}
    for key, chain in chains.items():
        states = [ABSENT, *(event.change.new for event in chain)]
        assert [event.change.old for event in chain] == states[:-1]
        assert states[-1] == (listed[key].state if key in listed else ABSENT)
        for event in chain:
            switched = event.change.cause.verb in {"drain", "undrain"}
            assert event.change.old != event.change.new or switched
        since = max(number for number, event in enumerate(chain) if event.change.old == ABSENT)
        expiries = [event for event in chain[since:] if event.change.cause.verb == EXPIRE]
        if key in listed:
            assert listed[key].instance.flaps == len(expiries)


async def test_as_many_changes_as_calls_are_as_many_events(pair: list[DatabaseModelRegistry]) -> None:
    """Each call changes something, whichever controller it comes through, in batches that overlap."""
    operator = Actor(ActorKind.OPERATOR, "10.0.0.9")
    crowd = [sent(port=number) for number in range(1, 101)]
    steps: list[Callable[[ModelRegistry, Registration], Coroutine[Any, Any, object]]] = [
        lambda registry, registration: registry.register(registration),
        lambda registry, registration: registry.drain(registration.key, reason="a new disk", actor=operator),
        lambda registry, registration: registry.undrain(registration.key, actor=operator),
        lambda registry, registration: registry.deregister(registration.key),
        lambda registry, registration: registry.register(registration),
    ]

    async def live(number: int, registration: Registration) -> None:
        for step, act in enumerate(steps):
            await act(pair[(number + step) % 2], registration)

    async with reading(pair) as readers:
        await asyncio.gather(*(live(number, registration) for number, registration in enumerate(crowd)))
    for reader in readers:
        assert [event.id for event in reader.events] == list(range(1, CHANGES + 1))
        counted = Counter((event.change.old, event.change.new, event.change.drained) for event in reader.events)
        assert counted == {
            ("absent", "healthy", False): 100,
            ("healthy", "healthy", True): 100,
            ("healthy", "healthy", False): 100,
            ("healthy", "deregistered", False): 100,
            ("deregistered", "healthy", False): 100,
        }


async def test_new_names_that_come_to_both_are_one_instance_and_one_event_each(
    pair: list[DatabaseModelRegistry],
) -> None:
    """As when a worker's register is sent again to the other controller. Both expect new names all the time."""
    crowd = [sent(f"m{number % 3}@llm", port=number) for number in range(1, 301)]
    for start in range(0, len(crowd), 30):
        await asyncio.gather(*(registry.register(one) for one in crowd[start : start + 30] for registry in pair))
    events = (await pair[0].events(after=0, limit=1000)).events
    assert [event.id for event in events] == list(range(1, len(crowd) + 1))
    assert {event.change.key for event in events} == {one.key for one in crowd}
    assert len((await pair[1].list()).entries) == len(crowd)


async def test_an_expiry_that_both_find_is_one_event(pair: list[DatabaseModelRegistry], clock: ManualClock) -> None:
    crowd = [sent(port=number) for number in range(1, 1001)]
    await asyncio.gather(*(pair[0].register(registration) for registration in crowd))
    began = clock.now()
    clock.advance(TIMEOUT.total_seconds() + 5)
    beaten = pair[1].heartbeat(crowd[0]), pair[0].deregister(crowd[1].key)
    await asyncio.gather(*(registry.announce() for registry in pair * 3), *beaten)
    page = await pair[1].events(after=len(crowd), limit=5000)
    expiries = [event.change for event in page.events if event.change.cause.verb == EXPIRE]
    assert sorted(change.key for change in expiries) == sorted(registration.key for registration in crowd)
    assert {change.time for change in expiries} == {began + TIMEOUT}
    assert {str(change.cause.actor) for change in expiries} == {"expiry"}
    rest = [event.change for event in page.events if event.change.cause.verb != EXPIRE]
    assert sorted((change.old, change.new) for change in rest) == [
        ("unhealthy", "deregistered"),
        ("unhealthy", "healthy"),
    ]
    assert [entry.instance.flaps for entry in (await pair[0].list()).entries] == [1] * len(crowd)


async def test_one_flap_is_one_expiry_although_no_controller_searched(
    pair: list[DatabaseModelRegistry], clock: ManualClock
) -> None:
    """The beat itself tells that it came too late, in a batch of many that came in time."""
    crowd = [sent(port=number) for number in range(1, 30)]
    late = crowd[7]
    await asyncio.gather(*(pair[0].register(registration) for registration in crowd))
    clock.advance(TIMEOUT.total_seconds() * 0.9)
    await asyncio.gather(*(pair[0].heartbeat(registration) for registration in crowd if registration is not late))
    clock.advance(TIMEOUT.total_seconds() * 0.2)
    await asyncio.gather(*(pair[1].heartbeat(registration) for registration in crowd))
    page = await pair[0].events(after=len(crowd))
    assert [(event.change.key, event.change.old, event.change.new) for event in page.events] == [
        (late.key, "healthy", "unhealthy"),
        (late.key, "unhealthy", "healthy"),
    ]


async def test_a_tick_leads_to_the_announcement_of_expiries(database: PrivateDatabase) -> None:
    """By itself, with the database's time."""
    timeout = timedelta(seconds=1)
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(
                DatabaseModelRegistry(database.url, heartbeat_timeout=timeout, watch_absence=True)
            )
            for _ in range(2)
        ]
        await one.register(sent())
        async with asyncio.timeout(20):
            while len((page := await other.events(after=0)).events) < 2:
                await asyncio.sleep(0.05)
        registered, expiry = [event.change for event in page.events]
        assert (expiry.old, expiry.new, expiry.cause.verb) == ("healthy", "unhealthy", EXPIRE)
        assert expiry.time == registered.time + timeout
        found = await other.get(sent().key)
        assert found is not None
        assert (found.entry.state, found.entry.instance.flaps) == (InstanceState.UNHEALTHY, 1)


async def test_no_expiry_is_announced_while_states_are_held_and_then_with_the_right_time(
    database: PrivateDatabase, clock: ManualClock
) -> None:
    async with DatabaseModelRegistry(
        database.url, heartbeat_timeout=TIMEOUT, clock=clock, watch_absence=True
    ) as registry:

        async def tick(seconds: float) -> None:
            clock.advance(seconds)
            await registry.tick()
            await registry.announce()

        early, held, beating = (sent(port=number) for number in range(1, 4))
        await registry.register(early)
        for _ in range(16):
            await tick(4)
        early_at = (await registry.events(after=1)).events[0].change.time
        await registry.register(held)
        await registry.register(beating)
        await tick(90)
        back_at = clock.now()
        for _ in range(14):
            await registry.heartbeat(beating)
            await tick(4)
        changes = [event.change for event in (await registry.events(after=0)).events]
        assert [change.key for change in changes if change.cause.verb == EXPIRE] == [early.key]
        await tick(4.000001)
        changes = [event.change for event in (await registry.events(after=0)).events]
        expiries = [(change.key, change.time) for change in changes if change.cause.verb == EXPIRE]
        assert expiries == [(early.key, early_at), (held.key, back_at + TIMEOUT)]


async def test_a_controller_that_leaves_announces_no_more_and_the_other_announces_the_rest(
    pair: list[DatabaseModelRegistry], clock: ManualClock
) -> None:
    one, other = pair
    crowd = [sent(port=number) for number in range(1, 3001)]
    await asyncio.gather(*(one.register(registration) for registration in crowd))
    clock.advance(TIMEOUT.total_seconds() + 1)
    telling = asyncio.create_task(one.announce())
    while (await other.events(limit=1)).last_id == len(crowd):
        pass
    await one.close()
    await telling
    assert (await other.events(limit=1)).last_id < 2 * len(crowd)
    await other.announce()
    changes = [event.change for event in (await other.events(after=len(crowd), limit=5000)).events]
    assert sorted(change.key for change in changes) == sorted(registration.key for registration in crowd)
