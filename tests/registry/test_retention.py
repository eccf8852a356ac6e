"""What has long been gone is removed, in a database by one controller at a time, and never what was drained."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, event

from dbgpt_ctl.registry.database import retention
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.retention import SWEEP_EVERY, Gone, Retention
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import DATABASES, TIMEOUT, sent, states
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.database_server import PrivateDatabase

WEEK = timedelta(days=7)
LONG_DEAD = sent(port=1)
LONG_DEREGISTERED = sent(port=2)
LONG_DRAINED = sent(port=3, enabled=False)
NEVER_CHECKED = sent(port=4, check_healthy=False)
STILL_BEATING = sent(port=5)
LATELY_DEAD = sent(port=6)
ALIVE = sent(port=7)
EVERYBODY = (LONG_DEAD, LONG_DEREGISTERED, LONG_DRAINED, NEVER_CHECKED, STILL_BEATING, LATELY_DEAD, ALIVE)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    if request.param == "sqlite":
        return URL.create("sqlite", database=str(tmp_path / "ctl.db"))
    database: PrivateDatabase = request.getfixturevalue(request.param)
    return database.url


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def registry_of(url: URL, clock: ManualClock, remove_after: timedelta | None = WEEK) -> DatabaseModelRegistry:
    return DatabaseModelRegistry(
        url, heartbeat_timeout=TIMEOUT, clock=clock, watch_absence=True, remove_after=remove_after
    )


async def alive(registry: DatabaseModelRegistry, clock: ManualClock, seconds: float) -> None:
    """Time passes in which the registry ticked; steps are as long as a gap may be at the most."""
    clock.advance(seconds)
    await registry.tick()
    clock.advance(TIMEOUT.total_seconds() / 20)
    for _ in range(25):
        await registry.tick()
        clock.advance(TIMEOUT.total_seconds() / 20)
    await registry.tick()


async def populate(registry: DatabaseModelRegistry, clock: ManualClock) -> None:
    for registration in EVERYBODY:
        await registry.register(registration)
    await registry.deregister(LONG_DEREGISTERED.key)
    await registry.deregister(STILL_BEATING.key)
    await alive(registry, clock, WEEK.total_seconds())
    await registry.heartbeat(STILL_BEATING)  # refused, and noted
    await registry.heartbeat(LATELY_DEAD)
    await alive(registry, clock, 3600)
    await registry.heartbeat(ALIVE)


def test_in_memory_too(clock: ManualClock) -> None:
    async def scenario() -> None:
        registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, remove_after=WEEK)
        for registration in EVERYBODY:
            await registry.register(registration)
        await registry.deregister(LONG_DEREGISTERED.key)
        await registry.deregister(STILL_BEATING.key)
        clock.advance(WEEK.total_seconds())
        await registry.heartbeat(STILL_BEATING)
        await registry.heartbeat(LATELY_DEAD)
        clock.advance(3600)
        await registry.heartbeat(ALIVE)
        assert await registry.sweep() == 2
        assert await registry.sweep() == 0
        assert ports(await states(registry)) == {3, 4, 5, 6, 7}
        assert await registry.heartbeat(LONG_DEAD), "whoever comes back is new"

    asyncio.run(scenario())


def test_in_memory_not_while_states_are_held_or_when_it_is_off(clock: ManualClock) -> None:
    async def scenario() -> None:
        async with EmbeddedModelRegistry(
            clock=clock, heartbeat_timeout=TIMEOUT, remove_after=WEEK, watch_absence=True
        ) as registry:
            await registry.register(LONG_DEAD)
            clock.advance(WEEK.total_seconds() + 1)
            assert await registry.sweep() == 0, "the registry was away all that time"
        keeps = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
        await keeps.register(LONG_DEAD)
        clock.advance(2 * WEEK.total_seconds())
        assert await keeps.sweep() == 0

    asyncio.run(scenario())


def ports(listed: list[tuple[str, str]]) -> set[int]:
    return {int(reference.rpartition(":")[2]) for reference, _ in listed}


def test_only_what_has_long_been_gone_goes(url: URL) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as registry:
            await populate(registry, clock)
            assert await registry.sweep() == 2
            assert ports(await states(registry)) == {3, 4, 5, 6, 7}

    asyncio.run(scenario())


def test_a_sweep_reads_no_more_than_it_removes(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks gone and still beats is not in its way."""
    monkeypatch.setattr(retention, "MAX_SWEPT", 1)
    queries: list[str] = []

    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as registry:
            for registration in (STILL_BEATING, sent(port=8), sent(port=9)):
                await registry.register(registration)
            await registry.deregister(STILL_BEATING.key)
            await alive(registry, clock, WEEK.total_seconds())
            await registry.heartbeat(STILL_BEATING)  # refused
            await alive(registry, clock, 3600)
            engine = registry._database.readers
            event.listen(engine, "before_cursor_execute", lambda *call: queries.append(call[2]))
            assert await registry.sweep() == 2
            assert ports(await states(registry)) == {5}

    asyncio.run(scenario())
    searches = [query for query in queries if "coalesce" in query]
    assert len(searches) == 3, "the last one finds nothing more"
    for search in searches:
        assert "LIMIT" in search
        assert "weight" not in search, "the identity is enough"


def test_a_sweep_goes_on_while_it_finds_more(url: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim is over before: it locks a row that each tick needs."""
    monkeypatch.setattr(retention, "MAX_REMOVED", 3)
    monkeypatch.setattr(retention, "MAX_SWEPT", 10)
    seen: list[str] = []

    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as registry:
            crowd = [sent(port=port) for port in range(1, 101)]
            await asyncio.gather(*(registry.register(registration) for registration in crowd))
            await alive(registry, clock, WEEK.total_seconds() + 3600)
            event.listen(registry._database.engine, "before_cursor_execute", lambda *call: seen.append(call[2]))
            event.listen(registry._database.engine, "commit", lambda _: seen.append("COMMIT"))
            assert await registry.sweep() == 100
            await asyncio.gather(*(registry.register(registration) for registration in crowd))
            await alive(registry, clock, WEEK.total_seconds() + 3600)
            swept, pruned = await asyncio.gather(registry.sweep(), registry.prune(WEEK))
            assert swept + len(pruned) == 100
            assert await states(registry) == []

    asyncio.run(scenario())
    claim = next(number for number, query in enumerate(seen) if "swept_at" in query)
    removal = next(number for number, query in enumerate(seen) if query.startswith("DELETE FROM ctl_instance"))
    assert "COMMIT" in seen[claim:removal]


def test_no_number_of_prunes_and_no_sweep_delays_a_tick_or_a_heartbeat(
    url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share a thread, which here hangs until a tick, a heartbeat and a list have passed."""
    passed = threading.Event()
    searches: list[Gone] = []

    def hanging(self: Retention, gone: Gone, *rest: object) -> object:
        searches.append(gone)
        assert passed.wait(30), "they had to wait"
        return search(self, gone, *rest)

    search: Callable[..., object] = Retention._search
    monkeypatch.setattr(Retention, "_search", hanging)

    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as registry:
            await registry.register(ALIVE)
            prunes = asyncio.gather(*(registry.prune(WEEK, dry_run=True) for _ in range(50)))
            sweep = asyncio.create_task(registry.sweep())
            while not searches:
                await asyncio.sleep(0)
            await registry.tick()
            assert await registry.heartbeat(ALIVE)
            assert ports(await states(registry)) == {7}
            passed.set()
            await asyncio.gather(prunes, sweep)

    asyncio.run(scenario())
    assert len(searches) == 2, "one for all prunes, and one of the sweep"


def test_of_two_controllers_one_does_it_and_not_all_the_time(url: URL) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as one, registry_of(url, clock) as other:
            await populate(one, clock)
            done = await asyncio.gather(one.sweep(), other.sweep())
            assert sorted(done) == [0, 2]
            await one.register(LONG_DEAD)
            await alive(one, clock, WEEK.total_seconds())
            assert await one.sweep() > 0, "after a while it is done again"
            assert SWEEP_EVERY < WEEK

    asyncio.run(scenario())


def test_nothing_goes_while_states_are_held_or_when_it_is_off(url: URL) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as registry, registry_of(url, clock, remove_after=None) as keeps:
            await populate(registry, clock)
            assert await keeps.sweep() == 0
            clock.advance(60)
            await registry.tick()
            assert await registry.sweep() == 0, "the registry was away just now"
            assert len(await states(registry)) == len(EVERYBODY)

    asyncio.run(scenario())


def test_what_a_sweep_removes_is_an_event(url: URL) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with registry_of(url, clock) as registry:
            await populate(registry, clock)
            await registry.announce()
            last = (await registry.events(limit=1)).last_id
            assert await registry.sweep() == 2
            changes = [found.change for found in (await registry.events(after=last)).events]
            assert [(change.key, change.old, change.new, str(change.cause.actor)) for change in changes] == [
                (LONG_DEAD.key, "unhealthy", "absent", "housekeeping"),
                (LONG_DEREGISTERED.key, "deregistered", "absent", "housekeeping"),
            ]

    asyncio.run(scenario())
