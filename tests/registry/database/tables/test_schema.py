"""How a database comes to hold the tables, and which databases are left alone."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL, inspect, make_url, text

from dbgpt_ctl.errors import RegistryUnusable, UsageError
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.tables import schema
from tests.registry.backends import TIMEOUT, Backend, sent, states
from tests.support.next_release import NEXT_RELEASE
from tests.support.process import CTL, ctl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from tests.support.database_server import PrivateDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


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


async def test_a_schema_that_only_newer_releases_can_use_is_left_alone(backend: Backend, engine: Engine) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE ctl_schema SET version = 99, readable_by = 98"))
    registry = backend.create()
    with pytest.raises(RegistryUnusable) as caught:
        await registry.open()
    message = str(caught.value)
    assert "version 99" in message
    assert "version 98 or newer" in message
    assert f"this release has {schema.SCHEMA_VERSION}" in message
    assert "upgrade this controller" in message
    assert "\n" not in message
    assert registry.health().reason == message
    assert version_in(engine) == [99]


async def test_a_newer_schema_that_only_adds_is_served(backend: Backend, engine: Engine) -> None:
    """By a controller that was there before, and by one that starts: after a release was taken back."""
    before = await backend.open()
    await before.register(sent())
    await upgrade(backend.url, NEXT_RELEASE)
    assert version_in(engine) == [schema.SCHEMA_VERSION + 1]
    columns = {column["name"] for column in inspect(engine).get_columns("ctl_instance")}
    assert {"region", "shard"} < columns
    assert inspect(engine).has_table("ctl_region")

    after = await backend.open()
    await upgrade(backend.url, CTL)
    assert version_in(engine) == [schema.SCHEMA_VERSION + 1]
    for number, registry in enumerate((before, after), 1):
        assert await registry.heartbeat(sent())
        await registry.register(sent(port=number))
        assert await registry.heartbeat(sent("other@llm", port=number))
        assert await registry.drain(sent(port=number).key, reason="a new disk")
        assert await registry.undrain(sent(port=number).key)
        assert await registry.deregister(sent(port=number).key)
    shown = dict(await states(before))
    assert shown == dict(await states(after))
    assert sorted(shown.values()) == ["deregistered", "deregistered", "healthy", "healthy", "healthy"]
    assert await before.events() == await after.events()
    assert len((await after.events()).events) == 11
    with engine.begin() as connection:
        for table in ("ctl_instance", "ctl_event"):
            assert set(connection.execute(text(f"SELECT region, shard FROM {table}"))) == {(None, 7)}


async def test_tables_that_lack_something_get_it_from_many_at_once(backend: Backend, engine: Engine) -> None:
    """As a newer release finds those of an older one, or any release what another began to create."""
    await (await backend.open()).close()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE ctl_pulse")
        for table, column in (("ctl_instance", "prompt_template"), ("ctl_event", "reason"), ("ctl_event", "address")):
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
        connection.exec_driver_sql("UPDATE ctl_schema SET version = 0, readable_by = 0")
    registries = await asyncio.gather(*(backend.open() for _ in range(8)))
    assert version_in(engine) == [schema.SCHEMA_VERSION]
    await registries[0].register(sent(prompt_template="chat"))
    assert await registries[3].drain(sent().key, reason="a new disk")
    (entry,) = (await registries[5].list()).entries
    assert entry.instance.prompt_template == "chat"
    assert [event.change.cause.reason for event in (await registries[7].events()).events] == [None, "a new disk"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE ctl_instance DROP COLUMN drain_until", "table ctl_instance has no column drain_until"),
        ("DROP TABLE ctl_event", "there is no table ctl_event"),
        ("ALTER TABLE ctl_event RENAME COLUMN at TO moment", "table ctl_event has no column at"),
        ("UPDATE ctl_schema SET version = NULL", "the row of ctl_schema cannot be read (version None"),
    ],
)
async def test_tables_that_were_changed_by_hand_are_refused_in_one_line(
    backend: Backend, engine: Engine, change: str, said: str
) -> None:
    await (await backend.open()).close()
    with engine.begin() as connection:
        if "NULL" in change:
            connection.exec_driver_sql("DROP TABLE ctl_schema")
            connection.exec_driver_sql("CREATE TABLE ctl_schema (id INTEGER, version INTEGER, readable_by INTEGER)")
            connection.exec_driver_sql("INSERT INTO ctl_schema VALUES (1, 1, 1)")
        connection.exec_driver_sql(change)
    registry = backend.create()
    with pytest.raises(RegistryUnusable) as caught:
        await registry.open()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert registry.health().reason == str(caught.value)


async def test_a_column_of_another_type_is_refused(database: PrivateDatabase) -> None:
    changes = {"mysql": "MODIFY last_heartbeat VARCHAR(40)", "postgresql": "ALTER last_heartbeat TYPE VARCHAR(40)"}
    registry = DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT)
    await registry.open()
    await registry.close()
    database.execute(f"ALTER TABLE ctl_instance {changes[database.server.db_type]}")
    said = r"column last_heartbeat of table ctl_instance is VARCHAR.*(DATETIME|TIMESTAMP)"
    with pytest.raises(RegistryUnusable, match=said):
        await DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT).open()


async def test_a_column_that_goes_while_a_controller_runs_is_in_health(backend: Backend, engine: Engine) -> None:
    registry = await backend.open(watch_absence=True)
    await registry.register(sent())
    await registry.list()
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ctl_instance DROP COLUMN prompt_template")
    listing = await registry.list()
    assert len(listing.entries) == 1
    assert listing.stale_since
    with pytest.raises(RegistryUnusable, match="prompt_template"):
        await registry.register(sent(port=2))
    health = registry.health()
    assert health.ready
    assert "prompt_template" in str(health.reason)


async def upgrade(url: URL, program: Sequence[str]) -> None:
    """Runs `ctl db upgrade` of a release."""
    database_type = url.get_backend_name()
    variables = {"TYPE": database_type, "NAME": url.database}
    if database_type != "sqlite":
        variables |= {"HOST": url.host, "PORT": str(url.port), "USER": url.username, "PASSWORD": str(url.password)}
    env = {f"CONTROLLER_REGISTRY_DB_{name}": value for name, value in variables.items()}
    await asyncio.to_thread(ctl, "db", "upgrade", program=program, env=env)


async def test_mariadb_compares_exactly_whatever_its_defaults(mysql_family: PrivateDatabase) -> None:
    database = mysql_family
    database.execute(f"ALTER DATABASE `{database.name}` CHARACTER SET latin1 COLLATE latin1_swedish_ci")
    async with DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT):
        ((_, ddl),) = database.execute("SHOW CREATE TABLE ctl_instance")
    assert isinstance(ddl, str)
    assert "PRIMARY KEY (`model_name`,`host`,`port`)" in ddl
    assert "ENGINE=InnoDB" in ddl
    assert "COLLATE=utf8mb4_bin" in ddl
    assert "AUTO_INCREMENT" not in ddl
    assert ddl.count("datetime(6)") == 6


async def test_statements_read_only_the_rows_they_name(mysql_family: PrivateDatabase) -> None:
    """MariaDB turns some forms of the same condition into a scan of the whole table, which an UPDATE locks."""
    database = mysql_family
    async with DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT) as registry:
        everybody = [sent(f"m{number % 7}@llm", port=number) for number in range(1, 3001)]
        await asyncio.gather(*(registry.register(registration) for registration in everybody))
        database.execute("ANALYZE TABLE ctl_instance")
        for some in (everybody[5:6], everybody[5:7], everybody[5:300:10]):
            for call in (
                registry.heartbeat,
                registry.register,
                lambda registration: registry.deregister(registration.key),
            ):
                before = rows_read_in_scans(database)
                await asyncio.gather(*(call(registration) for registration in some))
                assert rows_read_in_scans(database) - before < 1000


def rows_read_in_scans(database: PrivateDatabase) -> int:
    ((_, count),) = database.execute("SHOW GLOBAL STATUS LIKE 'Handler_read_rnd_next'")
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


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "oracle://localhost/ctl"])
def test_what_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match=r"sqlite|SQLite"):
        DatabaseModelRegistry(make_url(url), heartbeat_timeout=TIMEOUT)
