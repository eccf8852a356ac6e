"""Databases that vanish, hang and come back: every wait ends, every error is one line without secrets."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sqlite3
import threading
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, event, text
from sqlalchemy.exc import OperationalError

from dbgpt_ctl.domain.instance import DrainFacts
from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.session import DAMAGE_SECS, MAX_DAMAGES, Database
from dbgpt_ctl.registry.database.tables.instances import locked_rows
from tests.registry.backends import TIMEOUT, only, sent, states
from tests.registry.database.support import check_message, error_of, registry_at
from tests.support.clock import ManualClock
from tests.support.database_server import PASSWORD, DatabaseServer, private_server
from tests.support.observer import RecordingObserver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from tests.support.database_server import PrivateDatabase

pytestmark = pytest.mark.anyio
KEY = str(sent().key)


# --- away and back ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spare_server(database_server: DatabaseServer) -> Iterator[DatabaseServer]:
    """A second server; `database_server` only sees to it that there can be one."""
    with private_server(type(database_server)) as server:
        yield server


@pytest.fixture
def own_server(spare_server: DatabaseServer) -> DatabaseServer:
    """A server that the test may freeze, stop and kill, with an empty database `ctl`."""
    if spare_server.process is None:
        spare_server.start()
    spare_server.drop("ctl")
    spare_server.create("ctl")
    return spare_server


async def test_a_server_that_starts_later(own_server: DatabaseServer) -> None:
    own_server.stop()
    registry = registry_at(own_server.url("ctl"))
    for _ in range(2):
        error = await error_of(registry)
        assert isinstance(error, RegistryUnavailable)
        assert "Connection refused" in str(error)
        assert f"127.0.0.1:{own_server.port}" in str(error)
    own_server.start()
    await registry.open()
    await registry.register(sent())
    assert registry.health().ready
    assert registry.health().reason is None
    await registry.close()


async def test_a_killed_server_comes_back_and_nothing_acknowledged_is_lost(
    own_server: DatabaseServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with registry_at(own_server.url("ctl"), DatabaseTimeouts()) as registry:
        for port in range(1, 20):
            await registry.register(sent(port=port))
        own_server.kill()
        for call in (registry.list(), registry.heartbeat(sent(port=1)), registry.register(sent())):
            with pytest.raises(RegistryUnavailable) as caught:
                await call
            check_message(str(caught.value))
        assert not registry.health().ready
        assert registry.health().reason == str(caught.value)
        own_server.start()
        # The first call finds dead connections in the pool and does not fail for that.
        assert await registry.heartbeat(sent(port=1))
        assert registry.health().ready
        assert registry.health().reason is None
        assert len((await registry.list()).entries) == 19
    logged = [record for record in caplog.records if record.name.startswith("dbgpt_ctl")]
    assert [record.levelno for record in logged] == [logging.INFO, logging.WARNING, logging.INFO]
    for record in logged:
        check_message(record.getMessage())


async def test_a_restart_between_two_calls_goes_unnoticed(own_server: DatabaseServer) -> None:
    async with registry_at(own_server.url("ctl"), DatabaseTimeouts()) as registry:
        await registry.register(sent())
        await asyncio.gather(registry.list(), registry.list("qwen@llm"))
        own_server.stop()
        own_server.start()
        assert await registry.heartbeat(sent())
        assert await states(registry) == await states(registry, "qwen@llm") == [(KEY, "healthy")]


async def test_a_frozen_server_keeps_no_call_waiting_for_long(own_server: DatabaseServer) -> None:
    async with registry_at(own_server.url("ctl")) as registry:
        await registry.register(sent())
        own_server.freeze()
        try:
            async with asyncio.timeout(20):
                for _ in range(2):
                    answers = await asyncio.gather(
                        registry.heartbeat(sent()), registry.list(), registry.list("a@llm"), return_exceptions=True
                    )
                    assert [type(answer) for answer in answers] == [RegistryUnavailable] * 3
        finally:
            own_server.resume()
        assert await registry.heartbeat(sent())
        assert await states(registry) == [(KEY, "healthy")]


async def test_killed_connections_are_replaced(database: PrivateDatabase) -> None:
    async with registry_at(database.url) as registry:
        await registry.register(sent())
        await asyncio.gather(registry.list(), registry.list("qwen@llm"))
        ids = database.server.idle_connections(database.name)
        assert ids
        for number in ids:
            database.server.end_connection(number)
        assert await registry.heartbeat(sent())
        assert await states(registry) == [(KEY, "healthy")]


@contextmanager
def black_hole() -> Iterator[int]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    accepted.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in accepted:
            connection.close()


async def test_a_server_that_accepts_and_never_answers() -> None:
    with black_hole() as port:
        url = URL.create("mysql+pymysql", "ctl", PASSWORD, "127.0.0.1", port, "ctl")
        async with asyncio.timeout(20):
            error = await error_of(registry_at(url))
    assert isinstance(error, RegistryUnavailable)
    assert "timed out" in str(error)


async def test_closing_does_not_wait_for_a_frozen_server_for_long(own_server: DatabaseServer) -> None:
    registry = registry_at(own_server.url("ctl"))
    await registry.open()
    own_server.freeze()
    beat = asyncio.create_task(registry.heartbeat(sent()))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(20):
            await registry.close()
        with pytest.raises(RegistryUnavailable):
            await beat
    finally:
        own_server.resume()


# --- in each other's way ------------------------------------------------------------------------------------------


class Interference:
    """Fails the first statements that match with these errors of the driver."""

    def __init__(self, registry: DatabaseModelRegistry, *errors: Exception, at: str = "UPDATE") -> None:
        self.errors = list(errors)
        self.at = at
        for engine in (registry._database.engine, registry._database.readers):
            event.listen(engine, "before_cursor_execute", self.fail)

    def fail(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        if self.errors and statement.startswith(self.at):
            raise OperationalError("statement", {}, self.errors.pop(0))


@pytest.mark.parametrize("fault", ["deadlock", "lock", "changed"])
async def test_a_transaction_that_lost_against_another_is_repeated(database: PrivateDatabase, fault: str) -> None:
    async with registry_at(database.url) as registry:
        await registry.register(sent())
        trouble = Interference(registry, *[database.server.errors[fault]] * 3)
        assert await registry.heartbeat(sent())
        assert trouble.errors == []
        assert registry.health().ready


async def test_a_repeated_transaction_takes_its_capacity_once(database: PrivateDatabase) -> None:
    registry = DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT, max_instances=3, clock=ManualClock())
    async with registry:
        await registry.register(sent(port=1))
        trouble = Interference(registry, database.server.errors["deadlock"], at="UPDATE")
        await asyncio.gather(registry.register(sent(port=1, weight=2.0)), registry.register(sent(port=2)))
        assert trouble.errors == []
        await registry.register(sent(port=3))
        with pytest.raises(RegistryFull):
            await registry.register(sent(port=4))


async def test_a_lock_that_is_never_released_is_not_waited_for_forever(database: PrivateDatabase) -> None:
    async with registry_at(database.url, DatabaseTimeouts(lock=1, retries=0.5)) as registry:
        await registry.register(sent())
        await registry.register(sent(host="free"))
        with holding_lock(database):
            async with asyncio.timeout(20):
                with pytest.raises(RegistryUnavailable, match=r"(?i)lock.* timeout"):
                    await registry.heartbeat(sent())
            assert await registry.heartbeat(sent(host="free"))
            assert len((await registry.list()).entries) == 2
        assert await registry.heartbeat(sent())


@contextmanager
def holding_lock(database: PrivateDatabase) -> Iterator[None]:
    """Another's transaction has the row and does not end."""
    with closing(database.server.connect(database.name)) as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(
            "SELECT * FROM ctl_instance WHERE model_name = %s AND host = %s AND port = %s FOR UPDATE", sent().key
        )
        yield


async def test_a_client_that_is_silent_in_a_transaction_loses_its_locks_and_tries_again(
    database: PrivateDatabase,
) -> None:
    """A controller that is frozen, or whose host is gone: the database ends its transaction."""
    holds, goes_on, tries = threading.Event(), threading.Event(), count(1)

    def fall_silent(connection: Connection) -> int:
        locked_rows(connection, [sent().key])
        holds.set()
        goes_on.wait()
        locked_rows(connection, [sent().key])
        return next(tries)

    timeouts = DatabaseTimeouts()
    async with registry_at(database.url, timeouts) as silent, registry_at(database.url, timeouts) as other:
        await silent.register(sent())
        frozen = asyncio.create_task(asyncio.to_thread(silent._database.write, fall_silent))
        try:
            await asyncio.to_thread(holds.wait)
            assert await other.heartbeat(sent())
        finally:
            goes_on.set()
        assert await frozen == 1


async def test_a_lock_that_is_held_longer_than_one_answer_is_waited_for(database: PrivateDatabase) -> None:
    """Each wait ends with the database's own error, and is begun again. The connection is not lost."""
    errors: list[Exception] = []
    async with registry_at(database.url, DatabaseTimeouts(retries=10)) as registry:
        await registry.register(sent())
        event.listen(
            registry._database.engine, "handle_error", lambda context: errors.append(context.original_exception)
        )
        with holding_lock(database):
            waiting = asyncio.create_task(registry.register(sent(weight=2.0)))
            async with asyncio.timeout(20):
                while len(errors) < 2:
                    await asyncio.sleep(0.05)
        await waiting
        assert all(map(registry._database.dialect.is_conflict, errors))


async def test_an_idle_connection_is_replaced_before_the_database_ends_it(mysql: PrivateDatabase) -> None:
    """MySQL has one limit for idle transactions and idle connections. A write after it needs no second try."""
    tries = count(1)
    database = Database(mysql.url, pool_size=1, max_overflow=0)
    (number,) = database.write(lambda connection: connection.execute(text("SELECT CONNECTION_ID()")).one())
    async with asyncio.timeout(20):
        while (number,) in mysql.execute("SELECT id FROM information_schema.processlist"):
            await asyncio.sleep(0.05)
    database.write(lambda connection: connection.execute(text(f"SELECT {next(tries)}")))
    database.dispose()
    assert next(tries) == 2


async def test_another_controller_was_first_to_insert(database: PrivateDatabase) -> None:
    rival = (
        "INSERT INTO ctl_instance (model_name, host, port, weight, check_healthy, drained, registered_at, "
        "last_heartbeat, announced_state, flaps, removed) VALUES ('qwen@llm', '10.0.0.4', 8001, 7.5, TRUE, TRUE, "
        "CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, 'healthy', 0, FALSE)"
    )
    rivals = [rival]

    def be_faster(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO ctl_instance") and rivals:
            database.execute(rivals.pop())

    async with registry_at(database.url) as registry:
        event.listen(registry._database.engine, "before_cursor_execute", be_faster)
        await registry.register(sent(weight=2.0))
        assert not rivals
        facts = (await only(registry)).instance
        assert (facts.weight, facts.drain) == (2.0, DrainFacts())


# --- the retry policy, without waiting ----------------------------------------------------------------------------


class Waits:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def sleep(self, secs: float) -> None:
        self.sleeps.append(secs)
        self.now += secs


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def sqlite_database(tmp_path: Path, waits: Waits, observer: RecordingObserver) -> Iterator[Database]:
    url = URL.create("sqlite", database=str(tmp_path / "ctl.db"))
    database = Database(
        url,
        pool_size=1,
        max_overflow=0,
        timeouts=DatabaseTimeouts(retries=1.0),
        randomness=random.Random(1),
        sleep=waits.sleep,
        monotonic=lambda: waits.now,
        observer=observer,
    )
    database.prepare()
    yield database
    database.dispose()


def conflict() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def test_a_conflict_is_retried_after_short_random_waits(
    sqlite_database: Database, waits: Waits, observer: RecordingObserver
) -> None:
    errors = [conflict() for _ in range(8)]

    def work(_: Connection) -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert sqlite_database.write(work) == "done"
    assert len(waits.sleeps) == len(set(waits.sleeps)) == 8
    assert all(0 <= secs <= min(0.004 * 2**tries, 0.128) for tries, secs in enumerate(waits.sleeps, 1))
    assert sqlite_database.health.ready
    assert observer.failures == ["conflict"] * 8


def test_conflicts_are_retried_no_longer_than_the_limit(
    sqlite_database: Database, waits: Waits, observer: RecordingObserver
) -> None:
    def work(_: Connection) -> None:
        raise conflict()

    with pytest.raises(RegistryUnavailable, match="locked"):
        sqlite_database.write(work)
    assert 1.0 <= waits.now <= 1.0 + 0.128
    assert not sqlite_database.health.ready
    assert observer.failures == [*["conflict"] * len(waits.sleeps), "connection"], "in the end there was no answer"


def test_an_error_of_the_work_itself_is_raised_at_once(
    sqlite_database: Database, waits: Waits, observer: RecordingObserver
) -> None:
    def work(_: Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sqlite_database.write(work)
    assert waits.sleeps == []
    assert sqlite_database.health.ready
    assert observer.failures == []


def test_an_error_of_the_package_is_no_failure_of_the_database(
    sqlite_database: Database, observer: RecordingObserver
) -> None:
    def work(_: Connection) -> None:
        raise RegistryUnusable("the tables are of a later release")

    with pytest.raises(RegistryUnusable):
        sqlite_database.write(work)
    assert observer.failures == []


def test_damages_of_several_tables_are_all_reported_and_logged_once(
    sqlite_database: Database, waits: Waits, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        for table in ("ctl_instance", "ctl_event"):
            sqlite_database.note_damage(f"{table} is lost")
            waits.sleep(1.0)
    assert sqlite_database.damage == "ctl_instance is lost; ctl_event is lost"
    assert caplog.messages == ["ctl_instance is lost", "ctl_event is lost"]
    waits.sleep(DAMAGE_SECS - 1.5)
    assert sqlite_database.damage == "ctl_event is lost"
    for number in range(MAX_DAMAGES + 1):
        sqlite_database.note_damage(f"text {number}")
    assert sqlite_database.damage == "; ".join(f"text {number}" for number in range(1, MAX_DAMAGES + 1))
    waits.sleep(DAMAGE_SECS)
    assert sqlite_database.damage is None
