"""How a database comes to hold the tables, and which databases are left alone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, make_url, text

from dbgpt_ctl.errors import RegistryUnusable, UsageError
from dbgpt_ctl.registry.database import schema
from dbgpt_ctl.registry.database.dialects import dialect_of
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.session import Database
from tests.registry.backends import TIMEOUT, Backend, sent, states
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from tests.support.mariadb import MariaDB

pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


@pytest.fixture
def engine(backend: Backend) -> Iterator[Engine]:
    """A connection of the test's own."""
    engine = Database(backend.url, pool_size=1, max_overflow=0).engine
    yield engine
    engine.dispose()


def version_in(engine: Engine) -> list[int]:
    with engine.begin() as connection:
        return list(connection.scalars(text("SELECT version FROM ctl_schema")))


async def test_tables_are_created_where_they_are_absent(backend: Backend, engine: Engine) -> None:
    registry = await backend.open()
    await registry.register(sent())
    assert version_in(engine) == [schema.SCHEMA_VERSION]


async def test_many_controllers_may_create_them_at_once(backend: Backend, engine: Engine) -> None:
    registries = [DatabaseModelRegistry(backend.url, heartbeat_timeout=TIMEOUT) for _ in range(8)]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(registry) for registry in registries))
        await asyncio.gather(*(registry.register(sent()) for registry in registries))
        assert await states(registries[0]) == [(str(sent().key), "healthy")]
    assert version_in(engine) == [schema.SCHEMA_VERSION]


async def test_what_is_there_is_kept(backend: Backend, engine: Engine) -> None:
    first = await backend.open()
    await first.register(sent())
    second = await backend.open()
    assert len((await second.list()).entries) == 1
    assert version_in(engine) == [schema.SCHEMA_VERSION]


async def test_a_newer_schema_is_left_alone(backend: Backend, engine: Engine) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE ctl_schema SET version = 99"))
    registry = backend.create()
    with pytest.raises(RegistryUnusable) as caught:
        await registry.open()
    message = str(caught.value)
    assert "version 99" in message
    assert f"up to {schema.SCHEMA_VERSION}" in message
    assert "upgrade this controller" in message
    assert "\n" not in message
    assert registry.health().reason == message
    assert version_in(engine) == [99]


async def test_an_older_schema_is_upgraded_step_by_step(
    backend: Backend, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.close()
    done: list[int] = []

    def add_column(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE ctl_instance ADD COLUMN region INTEGER"))
        done.append(2)

    newest = schema.SCHEMA_VERSION
    monkeypatch.setattr(
        schema, "_STEPS", {**schema._STEPS, newest + 1: add_column, newest + 2: lambda _: done.append(3)}
    )
    monkeypatch.setattr(schema, "SCHEMA_VERSION", newest + 2)
    for _ in range(2):
        schema.prepare(engine, dialect_of(backend.url).place(backend.url))
        assert done == [2, 3]
        assert version_in(engine) == [newest + 2]
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM ctl_instance WHERE region IS NULL")) == 1


VERSION_1 = (
    "CREATE TABLE ctl_schema (id INTEGER NOT NULL PRIMARY KEY, version INTEGER NOT NULL)",
    (
        "CREATE TABLE ctl_instance (model_name VARCHAR(128) NOT NULL, host VARCHAR(128) NOT NULL, port INT NOT NULL,"
        " weight DOUBLE NOT NULL, check_healthy BOOL NOT NULL, enabled BOOL NOT NULL, prompt_template VARCHAR(128),"
        " registered_at DATETIME(6) NOT NULL, last_heartbeat DATETIME(6) NOT NULL, deregistered_at DATETIME(6),"
        " refused_at DATETIME(6), removed BOOL NOT NULL, PRIMARY KEY (model_name, host, port))"
    ),
    (
        "CREATE TABLE ctl_pulse (id INTEGER NOT NULL PRIMARY KEY, ticked_at DATETIME(6) NOT NULL, gone_at DATETIME(6),"
        " back_at DATETIME(6), swept_at DATETIME(6))"
    ),
    "INSERT INTO ctl_schema VALUES (1, 1)",
)
AT = "2026-01-02 03:04:05.678901"


def version_1(engine: Engine) -> None:
    """As the first release left it: one alive, one drained, one deregistered, one removed."""
    rows = [(1, 1, "NULL", 0), (2, 0, "NULL", 0), (3, 1, f"'{AT}'", 0), (4, 0, f"'{AT}'", 1)]
    with engine.begin() as connection:
        for statement in VERSION_1:
            connection.exec_driver_sql(statement)
        for port, enabled, deregistered_at, removed in rows:
            connection.exec_driver_sql(
                f"INSERT INTO ctl_instance VALUES ('qwen@llm', '10.0.0.4', {port}, 1.5, 1, {enabled}, 'chat', '{AT}', "
                f"'{AT}', {deregistered_at}, NULL, {removed})"
            )


async def test_the_first_schema_is_upgraded_by_many_at_once(backend: Backend, engine: Engine) -> None:
    if backend.kind == "sqlite":
        await (await backend.open()).close()  # makes the file
        with engine.begin() as connection:
            for table in ("ctl_schema", "ctl_instance", "ctl_pulse", "ctl_event", "ctl_stream"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
    version_1(engine)
    registries = await asyncio.gather(*(backend.open() for _ in range(8)))
    assert version_in(engine) == [2]
    one, other = registries[0], registries[5]
    entries = (await one.list()).entries
    assert [(entry.instance.key.port, str(entry.instance.announced_state)) for entry in entries] == [
        (1, "healthy"),
        (2, "drained"),
        (3, "deregistered"),
    ]
    assert {(entry.instance.drained_at, entry.instance.flaps) for entry in entries} == {(None, 0)}
    tombstone = await one.get(sent(port=4).key)
    assert tombstone is not None
    assert (tombstone.entry.instance.removed, str(tombstone.entry.instance.announced_state)) == (True, "deregistered")
    first, second = await one.events(), await other.events()
    assert first.events == ()
    assert first.last_id == 0
    assert first.stream == second.stream

    assert await one.heartbeat(sent(port=1))
    assert await other.undrain(sent(port=2).key)
    await one.register(sent(port=3))
    assert not await other.heartbeat(sent(port=4))
    changes = [event.change for event in (await other.events(after=0)).events]
    assert [(change.key.port, change.old, change.new) for change in changes] == [
        (2, "drained", "healthy"),
        (3, "deregistered", "healthy"),
    ]


async def test_an_upgrade_that_broke_off_is_finished(backend: Backend, engine: Engine) -> None:
    """Also where a controller of this release works already: its announced states stay."""
    registry = await backend.open()
    await registry.register(sent())
    assert isinstance(backend.clock, ManualClock)
    backend.clock.advance(TIMEOUT.total_seconds() + 1)
    await registry.announce()
    before = await registry.events()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ctl_instance DROP COLUMN drain_reason")
        connection.exec_driver_sql("UPDATE ctl_schema SET version = 1")
    again = await backend.open()
    assert version_in(engine) == [2]
    assert await again.events() == before
    (entry,) = (await again.list()).entries
    assert str(entry.instance.announced_state) == "unhealthy"
    assert await again.drain(sent().key, reason="a new disk")


async def test_the_release_before_may_go_on_in_an_upgraded_table(backend: Backend, engine: Engine) -> None:
    """While controllers are replaced one by one: what it inserts and updates knows no column of this one's."""
    registry = await backend.open()
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO ctl_instance (model_name, host, port, weight, check_healthy, enabled, registered_at,"
            f" last_heartbeat, removed) VALUES ('qwen@llm', '10.0.0.4', 8001, 1.0, 1, 1, '{AT}', '{AT}', 0)"
        )
    assert await registry.heartbeat(sent())
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE ctl_instance SET deregistered_at = '{AT}'")
    assert not await registry.heartbeat(sent())
    changes = [event.change for event in (await registry.events()).events]
    assert [(change.old, change.new) for change in changes] == [("healthy", "deregistered")]


async def test_up_to_date_tables_need_no_right_to_create(mariadb: MariaDB) -> None:
    await (opened := DatabaseModelRegistry(mariadb.url, heartbeat_timeout=TIMEOUT)).open()
    await opened.close()
    mariadb.execute("CREATE OR REPLACE USER limited IDENTIFIED BY 'pw'")
    url = mariadb.url.set(username="limited", password="pw")

    mariadb.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{mariadb.name}`.* TO limited")
    async with DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT) as registry:
        await registry.register(sent())
        assert await states(registry) == [(str(sent().key), "healthy")]
    mariadb.execute("DROP TABLE ctl_instance, ctl_schema")
    with pytest.raises(RegistryUnusable, match="a user who may create tables"):
        await DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT).open()


async def test_mariadb_compares_exactly_whatever_its_defaults(mariadb: MariaDB) -> None:
    mariadb.execute(f"ALTER DATABASE `{mariadb.name}` CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    async with DatabaseModelRegistry(mariadb.url, heartbeat_timeout=TIMEOUT):
        ((_, ddl),) = mariadb.execute("SHOW CREATE TABLE ctl_instance")
    assert isinstance(ddl, str)
    assert "PRIMARY KEY (`model_name`,`host`,`port`)" in ddl
    assert "ENGINE=InnoDB" in ddl
    assert "COLLATE=utf8mb4_bin" in ddl
    assert "AUTO_INCREMENT" not in ddl
    assert ddl.count("datetime(6)") == 5


async def test_statements_read_only_the_rows_they_name(mariadb: MariaDB) -> None:
    """MariaDB turns some forms of the same condition into a scan of the whole table, which an UPDATE locks."""
    async with DatabaseModelRegistry(mariadb.url, heartbeat_timeout=TIMEOUT) as registry:
        everybody = [sent(f"m{number % 7}@llm", port=number) for number in range(1, 3001)]
        await asyncio.gather(*(registry.register(registration) for registration in everybody))
        mariadb.execute("ANALYZE TABLE ctl_instance")
        for some in (everybody[5:6], everybody[5:7], everybody[5:300:10]):
            for call in (
                registry.heartbeat,
                registry.register,
                lambda registration: registry.deregister(registration.key),
            ):
                before = rows_read_in_scans(mariadb)
                await asyncio.gather(*(call(registration) for registration in some))
                assert rows_read_in_scans(mariadb) - before < 1000


def rows_read_in_scans(mariadb: MariaDB) -> int:
    ((_, count),) = mariadb.execute("SHOW GLOBAL STATUS LIKE 'Handler_read_rnd_next'")
    return int(str(count))


def test_sqlite_creates_folders_and_keeps_commits_through_a_power_cut(tmp_path: Path) -> None:
    async def run() -> None:
        url = URL.create("sqlite", database=str(tmp_path / "a" / "b" / "ctl.db"))
        async with DatabaseModelRegistry(url, heartbeat_timeout=TIMEOUT) as registry:
            await registry.register(sent())
            with registry._database.engine.begin() as connection:
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    asyncio.run(run())
    with closing(sqlite3.connect(tmp_path / "a" / "b" / "ctl.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://localhost/ctl"])
def test_what_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match=r"sqlite|SQLite"):
        DatabaseModelRegistry(make_url(url), heartbeat_timeout=TIMEOUT)
