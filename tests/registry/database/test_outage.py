"""The database goes away and comes back, under a registry that watches (rules 8 and 10)."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, event

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime
from tests.registry.backends import DATABASES, TIMEOUT, sent, states
from tests.support.clock import ManualClock
from tests.support.database_server import SERVERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.support.database_server import PrivateDatabase


LIVE, OTHER = sent(port=8001), sent("bge@text2vec", port=8002)


@pytest.fixture
def database(database: PrivateDatabase) -> Iterator[PrivateDatabase]:
    """Is up again when the test is over."""
    yield database
    if database.server.process is None:
        database.server.start()


@asynccontextmanager
async def watching(database: PrivateDatabase, clock: ManualClock | None = None) -> AsyncIterator[DatabaseModelRegistry]:
    registry = DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT, clock=clock, watch_absence=True)
    async with registry:
        yield registry


async def until_away(registry: DatabaseModelRegistry) -> None:
    """Its tick finds out by itself."""
    async with asyncio.timeout(20):
        while registry.health().reason is None:
            await asyncio.sleep(0.01)


def test_lists_are_the_last_known_and_marked(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        async with watching(database) as registry:
            await registry.register(LIVE)
            await registry.heartbeat(OTHER)
            before = await registry.list()
            assert before.stale_since is None
            assert registry.health().stale_since is None
            database.server.stop()
            await until_away(registry)
            stale = await registry.list()
            assert stale.stale_since is not None
            assert registry.health().stale_since == stale.stale_since
            assert stale.entries == before.entries
            assert await states(registry, "bge@text2vec", healthy_only=True) == [
                ("bge@text2vec/10.0.0.4:8002", "healthy")
            ]
            assert await states(registry, "unknown@llm") == []
            health = registry.health()
            assert health.ready
            assert "lists are as of" in str(health.reason)
            assert database.server.password not in str(health.reason)

    asyncio.run(scenario())


def test_a_stale_list_ends_no_drain(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with watching(database, clock) as registry:
            await registry.register(LIVE)
            await registry.drain(LIVE.key, duration=timedelta(seconds=3))
            before = await registry.list()
            database.server.stop()
            await until_away(registry)
            clock.advance(4)
            stale = await registry.list()
            assert stale.stale_since is not None
            assert stale.entries == before.entries
            assert (await registry.list(healthy_only=True)).entries == ()
            database.server.start()
            async with asyncio.timeout(20):
                while registry.health().reason is not None:
                    await asyncio.sleep(0.01)
            assert await states(registry, healthy_only=True) == [(str(LIVE.key), "healthy")]

    asyncio.run(scenario())


def test_the_last_known_list_is_refreshed_although_nobody_lists(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        registry = DatabaseModelRegistry(
            database.url, heartbeat_timeout=TIMEOUT, watch_absence=True, refresh_interval=timedelta(seconds=0.1)
        )
        async with registry:
            await registry.register(LIVE)
            await asyncio.sleep(1)
            database.server.stop()
            await until_away(registry)
            stale = await registry.list()
            assert stale.stale_since is not None
            assert [entry.instance.key for entry in stale.entries] == [LIVE.key]

    asyncio.run(scenario())


def test_heartbeats_are_refused_at_once_and_all_recovers_by_itself(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        async with watching(database) as registry:
            await registry.register(LIVE)
            await registry.list()
            database.server.stop()
            await until_away(registry)
            operate = registry.drain(LIVE.key), registry.undrain(LIVE.key), registry.prune(TIMEOUT)
            look = registry.get(LIVE.key), registry.events()
            for call in (registry.heartbeat(LIVE), registry.deregister(LIVE.key), *operate, *look):
                with pytest.raises(RegistryUnavailable):
                    await call
            database.server.start()
            async with asyncio.timeout(20):
                while registry.health().reason is not None:
                    await asyncio.sleep(0.01)
            assert await registry.heartbeat(LIVE)
            assert (await registry.list()).stale_since is None

    asyncio.run(scenario())


def test_a_register_waits_for_a_database_that_comes_back(
    database: PrivateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that starts on a busy machine takes longer than a worker waits.
    monkeypatch.setattr("dbgpt_ctl.registry.database.registry.REGISTER_DEADLINE_SECS", 60.0)

    async def scenario() -> None:
        async with watching(database) as registry:
            database.server.stop()
            await until_away(registry)
            waiting = asyncio.create_task(registry.register(LIVE))
            await asyncio.sleep(0)
            await asyncio.to_thread(database.server.start)
            await waiting
            assert await states(registry) == [("qwen@llm/10.0.0.4:8001", "healthy")]

    asyncio.run(scenario())


def test_a_register_waits_while_the_registry_opens(tmp_path: Path) -> None:
    """Where all is started at once, workers register before the database is up, and one that fails ends itself."""

    async def scenario() -> None:
        url = URL.create("sqlite", database=str(tmp_path / "ctl.db"))
        registry = DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, watch_absence=True)
        waiting = asyncio.create_task(registry.register(LIVE))
        await asyncio.sleep(0)
        async with registry:
            await waiting
            assert await states(registry) == [("qwen@llm/10.0.0.4:8001", "healthy")]

    asyncio.run(scenario())


def test_a_register_that_waits_fails_when_the_registry_closes(tmp_path: Path) -> None:
    async def scenario() -> None:
        url = URL.create("sqlite", database=str(tmp_path / "ctl.db"))
        registry = DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, watch_absence=True)
        waiting = asyncio.create_task(registry.register(LIVE))
        await asyncio.sleep(0)
        await registry.close()
        with pytest.raises(RegistryUnavailable, match="closed"):
            await waiting

    asyncio.run(scenario())


def test_a_register_does_not_wait_for_ever(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        async with watching(database) as registry:
            database.server.stop()
            await until_away(registry)
            with pytest.raises(RegistryUnavailable, match="database"):
                await registry.register(LIVE)

    asyncio.run(scenario())


def test_a_frozen_database_keeps_no_call_waiting(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        async with watching(database) as registry:
            await registry.register(LIVE)
            await registry.list()
            database.server.freeze()
            try:
                calls = [registry.heartbeat(LIVE), registry.register(OTHER), registry.deregister(LIVE.key)]
                async with asyncio.timeout(15):
                    failed = await asyncio.gather(*calls, return_exceptions=True)
                    assert {type(error) for error in failed} == {RegistryUnavailable}
                    assert (await registry.list("qwen@llm", healthy_only=True)).stale_since is not None
            finally:
                database.server.resume()
            async with asyncio.timeout(20):
                while registry.health().reason is not None:
                    await asyncio.sleep(0.01)
            assert await registry.heartbeat(LIVE)

    asyncio.run(scenario())


async def tick(registry: DatabaseModelRegistry, clock: ManualClock, seconds: float = 1) -> None:
    clock.advance(seconds)
    await registry.tick()


def test_a_gap_in_which_nobody_ticked_holds_states(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with watching(database, clock) as registry:
            await registry.register(OTHER)
            for _ in range(61):
                await tick(registry, clock)
            await registry.register(LIVE)
            clock.advance(90)
            held = await registry.list()
            assert held.held_until is not None
            assert [entry.state for entry in held.entries] == ["unhealthy", "healthy"], "in order of identity"
            assert "the registry was away" in str(registry.health().reason)
            for _ in range(60):
                await tick(registry, clock)
            after = await registry.list()
            assert [entry.state for entry in after.entries] == ["unhealthy", "healthy"]
            await tick(registry, clock)
            assert [entry.state for entry in (await registry.list()).entries] == ["unhealthy", "unhealthy"]
            assert registry.health().reason is None

    asyncio.run(scenario())


def test_a_controller_that_was_frozen_alone_holds_no_state(database: PrivateDatabase) -> None:
    """The other one ticked all the while: silence was death."""

    async def scenario() -> None:
        clock = ManualClock()
        async with watching(database, clock) as frozen, watching(database, clock) as other:
            await frozen.register(LIVE)
            await frozen.heartbeat(OTHER)
            for second in range(90):
                await tick(other, clock)
                if second % 20 == 0:
                    await other.heartbeat(OTHER)
            assert [entry.state for entry in (await frozen.list()).entries] == ["healthy", "unhealthy"]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", DATABASES)
def test_a_clock_that_is_set_back_keeps_no_dead_instance_alive(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Not for the hour until it is there again; and who was dead before is not alive again."""
    url = URL.create("sqlite", database=str(tmp_path / "ctl.db"))
    if kind in SERVERS:
        url = request.getfixturevalue(kind).url

    async def scenario() -> None:
        clock = ManualClock()
        registry = DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, clock=clock, watch_absence=True)
        async with registry:
            await registry.register(OTHER)
            for _ in range(61):
                await tick(registry, clock)
            await registry.register(LIVE)
            clock.advance(-3600)
            await tick(registry, clock)
            assert [entry.state for entry in (await registry.list()).entries] == ["unhealthy", "healthy"]
            assert await registry.heartbeat(LIVE)
            for _ in range(61):
                await tick(registry, clock)
            assert [entry.state for entry in (await registry.list()).entries] == ["unhealthy", "unhealthy"]

    asyncio.run(scenario())


def test_a_tombstone_is_held_too(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        async with watching(database, clock) as registry:
            await registry.register(LIVE)
            await registry.deregister(LIVE.key, remove=True)
            clock.advance(300)
            assert await registry.heartbeat(LIVE) is False

    asyncio.run(scenario())


def test_an_unexpected_error_does_not_stop_the_ticks(
    database: PrivateDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """DB-GPT's sweeper dies at its first database error, for good."""

    async def scenario() -> None:
        registry = DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT, watch_absence=True)
        ticked = asyncio.Event()
        faults = iter([ZeroDivisionError("boom")])

        async def failing_tick() -> None:
            for fault in faults:
                raise fault
            ticked.set()

        monkeypatch.setattr(registry, "tick", failing_tick)
        async with registry, asyncio.timeout(20):
            await ticked.wait()

    asyncio.run(scenario())
    assert "boom" in caplog.text


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_list_holds_the_databases_time_where_this_host_has_another(database: PrivateDatabase, hours: int) -> None:
    async def scenario() -> None:
        async with DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT) as registry:

            def set_clock(connection: Any, _: object) -> None:
                with connection.cursor() as cursor:
                    for statement in database.server.shift_clock(hours * 3600):
                        cursor.execute(statement)
                connection.commit()

            event.listen(registry._database.readers, "connect", set_clock)
            time = (await registry.list()).time
            assert (time is not None) == (hours != 0)
            if time is not None:
                assert abs(time - SystemClock().now() - timedelta(hours=hours)) < timedelta(minutes=1)

    asyncio.run(scenario())


def test_a_clock_that_is_set_back_during_a_list_drops_no_instance(database: PrivateDatabase) -> None:
    """One controller still uses the host that is ahead; another has recorded a tick of the host that is not."""

    async def scenario() -> None:
        ahead, behind = ManualClock(), ManualClock()
        behind.advance(-3600)
        async with watching(database, ahead) as registry, watching(database, ahead) as other:
            await registry.register(LIVE)
            moves = [lambda: other._database.write(RegistryTime(behind, TIMEOUT).tick)]

            def move(_connection: object, _cursor: object, statement: str, *_: object) -> None:
                if "FROM ctl_instance" in statement and moves:
                    moves.pop()()

            event.listen(registry._database.readers, "before_cursor_execute", move)
            assert [entry.state for entry in (await registry.list()).entries] == ["healthy"]
            assert not moves

    asyncio.run(scenario())
