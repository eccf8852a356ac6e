"""What an observer learns of a database: each change once, however often a transaction is tried, and each failure."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.retention import SWEEP_EVERY
from tests.registry.backends import TIMEOUT, changes, sent
from tests.registry.database.support import SHORT
from tests.support.database_server import SERVERS
from tests.support.observer import RecordingObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine

    from dbgpt_ctl.domain.lifecycle import Command
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock
    from tests.support.database_server import DatabaseServer, PrivateDatabase

pytestmark = pytest.mark.anyio

SILENT = TIMEOUT.total_seconds() + 1


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


@pytest.fixture
def observer(backend: Backend) -> RecordingObserver:
    return backend.observer


@pytest.fixture
def conflict(kind: str, request: pytest.FixtureRequest) -> Exception:
    if kind in SERVERS:
        server: DatabaseServer = request.getfixturevalue(f"{kind}_server")
        return server.errors["deadlock"]
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


# --- a transaction that is tried again ----------------------------------------------------------------------------


async def test_a_transaction_that_is_tried_again_is_told_once(
    registry: DatabaseModelRegistry, conflict: Exception, observer: RecordingObserver, clock: ManualClock
) -> None:
    """The writer, the announcer and a prune: the first two tries of each fail when all is done but the commit."""
    errors: list[Exception] = []

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO ctl_event") and errors:
            raise errors.pop()

    event.listen(registry._database.engine, "after_cursor_execute", fail)

    def two_conflicts() -> None:
        assert not errors
        errors.extend([conflict, conflict])

    two_conflicts()
    await registry.register(sent())
    clock.advance(SILENT)
    two_conflicts()
    await registry.announce()
    clock.advance(SILENT)
    two_conflicts()
    assert await registry.prune(TIMEOUT) == (sent().key,)
    assert observer.changes == await changes(registry)
    assert [change.cause.verb for change in observer.changes] == ["register", "expire", "prune"]
    assert observer.failures == ["conflict"] * 6
    assert len(observer.batches) == 1


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("stored", [False, True])
async def test_a_commit_that_was_not_confirmed_is_never_told_twice(
    registry: DatabaseModelRegistry,
    kind: str,
    request: pytest.FixtureRequest,
    observer: RecordingObserver,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stored: bool,
) -> None:
    """If it was stored, the second try finds nothing to change, and the change is not told at all."""
    dialect = registry._database.engine.dialect
    commit, lost = dialect.do_commit, [True]

    def lose(connection: Any) -> None:
        if not lost:
            return commit(connection)
        lost.clear()
        if stored:
            commit(connection)
        connection.driver_connection.close()
        raise request.getfixturevalue(f"{kind}_server").errors["lost"]

    monkeypatch.setattr(dialect, "do_commit", lose)
    await registry.register(sent())
    assert not lost
    (change,) = await changes(registry)
    assert observer.changes == ([] if stored else [change])
    assert observer.failures == ["connection"]


async def test_a_batch_that_fails_is_not_told_as_committed(
    registry: DatabaseModelRegistry, observer: RecordingObserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(registry._database, "write", fail)
    with pytest.raises(ZeroDivisionError):
        await registry.register(sent())
    assert (observer.batches, observer.changes, observer.failures) == ([], [], [])


async def test_calls_that_share_a_batch_are_one_batch(
    registry: DatabaseModelRegistry, observer: RecordingObserver
) -> None:
    everybody = [sent(port=port) for port in range(1, 90)]
    await asyncio.gather(*map(registry.register, everybody))
    await asyncio.gather(*map(registry.heartbeat, everybody))
    assert [calls for calls, _ in observer.batches] == [89, 89]
    assert observer.changes == await changes(registry)


@pytest.mark.parametrize("announced", [False, True])
async def test_what_a_sweep_removes_is_told(backend: Backend, clock: ManualClock, *, announced: bool) -> None:
    registry = DatabaseModelRegistry(
        backend.url, heartbeat_timeout=TIMEOUT, clock=clock, remove_after=SWEEP_EVERY, observer=backend.observer
    )
    async with registry:
        for port in range(1, 4):
            await registry.register(sent(port=port))
        await registry.deregister(sent(port=3).key, remove=True)
        await registry.tick()
        clock.advance(SILENT)
        if announced:
            await registry.announce()
        clock.advance(SWEEP_EVERY.total_seconds() + SILENT)
        assert await registry.sweep() == 3
        told = [(change.key.port, change.cause.verb) for change in backend.observer.changes[4:]]
        assert sorted(told) == [(1, "expire"), (1, "prune"), (2, "expire"), (2, "prune")]
        assert backend.observer.changes == await changes(registry)


# --- failures -----------------------------------------------------------------------------------------------------


async def test_a_database_that_is_away_is_a_failure_of_the_connection(database: PrivateDatabase) -> None:
    observer = RecordingObserver()
    registry = DatabaseModelRegistry(
        database.url, heartbeat_timeout=TIMEOUT, timeouts=SHORT, watch_absence=True, observer=observer
    )
    async with registry:
        await registry.register(sent())
        await registry.refresh()
        before = registry.figures()
        assert (before.instances, observer.failures) == (1, [])
        database.server.stop()
        try:
            await until(lambda: not registry._database.health.ready)
            assert set(observer.failures) == {"connection"}
            away = registry.figures()
            assert (away.instances, away.max_instances) == (None, before.max_instances)
            assert away.clock_offset_secs is not None
            with pytest.raises(RegistryUnavailable):
                await registry.heartbeat(sent())
        finally:
            database.server.start()
        await until(lambda: registry.figures().instances == 1)
        assert set(observer.failures) == {"connection"}


async def test_a_refused_connection_is_a_failure_while_it_opens(database: PrivateDatabase) -> None:
    observer, url = RecordingObserver(), database.url.set(password="wrong")
    with pytest.raises(RegistryUnusable):
        await DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT, timeouts=SHORT, observer=observer).open()
    assert observer.failures == ["connection"]


async def test_a_lost_table_is_damage(
    registry: DatabaseModelRegistry, engine: Engine, observer: RecordingObserver
) -> None:
    await registry.register(sent())
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE ctl_event RENAME TO gone"))
    with pytest.raises(RegistryUnusable):
        await registry.drain(sent().key)
    assert observer.failures == ["damage"]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO ctl_event"))
    assert await registry.drain(sent().key)
    assert [change.cause.verb for change in observer.changes] == ["register", "drain"]
    assert observer.failures == ["damage"]


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_value_that_the_database_refuses_is_damage(
    registry: DatabaseModelRegistry, engine: Engine, observer: RecordingObserver
) -> None:
    await registry.register(sent())
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM ctl_event"))
        change = "ALTER verb TYPE VARCHAR(1)" if engine.dialect.name == "postgresql" else "MODIFY verb VARCHAR(1)"
        connection.execute(text(f"ALTER TABLE ctl_event {change}"))
    with pytest.raises(RegistryUnusable):
        await registry.drain(sent().key)
    assert observer.failures == ["damage"]


# --- figures ------------------------------------------------------------------------------------------------------


async def test_all_controllers_of_a_database_have_the_same_count(backend: Backend) -> None:
    pair = [await backend.open(max_instances=9) for _ in range(2)]
    assert [registry.figures().instances for registry in pair] == [None, None], "not counted yet"
    for port, registry in enumerate([*pair, *pair], 1):
        await registry.register(sent(port=port))
    await pair[0].deregister(sent(port=1).key, remove=True)
    for registry in pair:
        assert isinstance(registry, DatabaseModelRegistry)
        await registry.refresh()
    assert [registry.figures().instances for registry in pair] == [4, 4]


async def test_a_count_is_not_told_any_more_when_the_table_is_lost(
    registry: DatabaseModelRegistry, engine: Engine
) -> None:
    await registry.refresh()
    assert registry.figures().instances == 0
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE ctl_instance RENAME TO gone"))
    with pytest.raises(RegistryUnusable):
        await registry.refresh()
    assert registry.health().ready
    assert registry.figures().instances is None


async def test_calls_that_wait_for_a_transaction_are_counted(
    registry: DatabaseModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    store = registry._writer.store

    def slow(commands: Sequence[Command]) -> Any:
        begun.set()
        assert go_on.wait(30)
        return store(commands)

    monkeypatch.setattr(registry._writer, "store", slow)
    first = asyncio.create_task(registry.register(sent()))
    assert await asyncio.to_thread(begun.wait, 30)
    assert registry.figures().waiting_calls == 0, "it is under way"
    rest = [asyncio.create_task(registry.register(sent(port=port))) for port in range(1, 6)]
    await asyncio.sleep(0)
    assert registry.figures().waiting_calls == 5
    go_on.set()
    await asyncio.gather(first, *rest)
    assert registry.figures().waiting_calls == 0


@pytest.mark.parametrize("hours", [-1, 0, 1])
async def test_the_offset_of_the_clock_is_measured_with_each_tick(database: PrivateDatabase, hours: int) -> None:
    async with DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT) as registry:

        def set_clock(connection: Any, _: object) -> None:
            with connection.cursor() as cursor:
                for statement in database.server.shift_clock(hours * 3600):
                    cursor.execute(statement)
            connection.commit()

        assert registry.figures().clock_offset_secs is None
        registry._database.engine.dispose()  # the next connection has another clock
        event.listen(registry._database.engine, "connect", set_clock)
        await registry.tick()
        offset = registry.figures().clock_offset_secs
        assert offset is not None
        assert abs(timedelta(seconds=offset) - timedelta(hours=hours)) < timedelta(minutes=1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)
