"""Several hosts of one database: all connections use the first that serves."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.databases import DatabaseHost, parse_hosts
from dbgpt_ctl.errors import RegistryError
from dbgpt_ctl.registry.database.host_failover import AVOIDED_SECS, DatabaseHosts
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, sent
from tests.registry.database.support import check_message, error_of
from tests.support.database_server import DatabaseServer, PrivateDatabase, private_server
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL


LIVE, OTHER = sent(port=8001), sent("bge@text2vec", port=8002)


@pytest.fixture(scope="module")
def servers(database_server: DatabaseServer) -> Iterator[tuple[DatabaseServer, DatabaseServer]]:
    """Two without replication; `database_server` only sees to it that there can be some."""
    with private_server(type(database_server)) as first, private_server(type(database_server)) as second:
        yield first, second


@pytest.fixture
def pair(servers: tuple[DatabaseServer, DatabaseServer]) -> Iterator[tuple[PrivateDatabase, PrivateDatabase]]:
    """Databases of the same name on two servers, which a test may freeze and kill."""
    databases = PrivateDatabase(servers[0], "test_pair"), PrivateDatabase(servers[1], "test_pair")
    for database in databases:
        database.create()
    yield databases
    for database in databases:
        if database.server.process is None:
            database.server.start()
        database.server.resume()
        database.drop()


async def prepare(database: PrivateDatabase) -> None:
    async with DatabaseModelRegistry(database.url, heartbeat_timeout=TIMEOUT):
        pass


def over(
    pair: tuple[PrivateDatabase, PrivateDatabase], *, watch_absence: bool = False, url: URL | None = None
) -> DatabaseModelRegistry:
    hosts = [DatabaseHost("127.0.0.1", database.server.port) for database in pair]
    return DatabaseModelRegistry(
        url or pair[0].url, heartbeat_timeout=TIMEOUT, hosts=hosts, watch_absence=watch_absence
    )


def test_a_frozen_host_is_left_within_the_call(pair: tuple[PrivateDatabase, PrivateDatabase]) -> None:
    async def scenario() -> None:
        first, second = pair
        await prepare(second)
        async with over(pair) as registry:
            await registry.register(LIVE)
            assert len(first.execute("SELECT * FROM ctl_instance")) == 1, "the first of the list while it is well"
            first.server.freeze()
            await registry.register(OTHER)
            assert second.execute("SELECT model_name FROM ctl_instance") == [("bge@text2vec",)]
            assert registry.health().ready

    asyncio.run(scenario())


def test_a_host_that_becomes_read_only_is_left_and_is_not_begun_with(
    pair: tuple[PrivateDatabase, PrivateDatabase],
) -> None:
    """As a primary that another server has replaced."""

    async def scenario() -> None:
        for database in pair:
            await prepare(database)
            database.server.create_user("plain", "x", database.name)  # an administrator may write all the same
        url = pair[0].url.set(username="plain", password="x")
        async with over(pair, url=url) as registry:
            await registry.register(LIVE)
            pair[0].server.set_read_only(is_on=True)
            await registry.register(OTHER)
        async with over(pair, url=url) as registry:
            assert await registry.heartbeat(OTHER)
        assert [len(each.execute("SELECT * FROM ctl_instance")) for each in pair] == [1, 1]
        pair[0].server.set_read_only(is_on=False)
        for database in pair:
            database.server.drop_user("plain", database.name)

    asyncio.run(scenario())


async def error_of_register(registry: DatabaseModelRegistry) -> str:
    with pytest.raises(RegistryError) as caught:
        await registry.register(LIVE)
    check_message(str(caught.value))
    assert registry.health().reason == str(caught.value)
    return str(caught.value)


def place(database: PrivateDatabase) -> str:
    return f"database 127.0.0.1:{database.server.port}/test_pair"


def test_when_no_host_answers_each_is_named_with_its_own_error(pair: tuple[PrivateDatabase, PrivateDatabase]) -> None:
    async def scenario() -> None:
        first, second = pair
        await prepare(first)
        async with over(pair) as registry:
            first.server.kill()
            second.server.freeze()
            message = await error_of_register(registry)
            assert re.search(re.escape(place(first)) + r": .*([Errno 111]|Connection refused)", message)
            assert f"{place(second)}: " in message
            assert re.search("timed out|timeout", message)

    asyncio.run(scenario())


def test_an_error_of_the_second_host_names_the_second_host(pair: tuple[PrivateDatabase, PrivateDatabase]) -> None:
    """It serves after the first one ended, and lacks a table."""

    async def scenario() -> None:
        first, second = pair
        for database in pair:
            await prepare(database)
        second.execute("DROP TABLE ctl_event")
        async with over(pair) as registry:
            first.server.kill()
            message = await error_of_register(registry)
            assert re.match(re.escape(place(second)) + r": .*ctl_event\S* does(n't| not) exist; these are not", message)
            assert str(first.server.port) not in message

    asyncio.run(scenario())


def test_a_wrong_password_at_one_host_names_that_host(pair: tuple[PrivateDatabase, PrivateDatabase]) -> None:
    """No other host is asked, and the one before it is named with its error."""

    async def scenario() -> None:
        first, second = pair
        first.server.kill()
        second.server.create_user("other", "x", second.name)
        registry = over(pair, url=pair[0].url.set(username="other"))
        message = str(await error_of(registry))
        assert f"{place(first)}: " in message
        assert f"{place(second)}: {second.server.wrong_password} for user" in message
        assert re.search(r"; check user, password and [\w.]+$", message)
        second.server.drop_user("other", second.name)

    asyncio.run(scenario())


def test_a_newer_schema_names_the_host_that_holds_it(pair: tuple[PrivateDatabase, PrivateDatabase]) -> None:
    async def scenario() -> None:
        first, second = pair
        await prepare(second)
        second.execute("UPDATE ctl_schema SET version = 99, readable_by = 99")
        first.server.kill()
        message = str(await error_of(over(pair)))
        assert message.startswith(f"127.0.0.1:{second.server.port}/test_pair holds schema version 99")

    asyncio.run(scenario())


def test_a_host_without_a_server_is_skipped(database: PrivateDatabase) -> None:
    async def scenario() -> None:
        hosts = [DatabaseHost("127.0.0.1", free_port()), DatabaseHost("127.0.0.1", database.server.port)]
        registry = DatabaseModelRegistry(database.url, heartbeat_timeout=timedelta(seconds=60), hosts=hosts)
        async with registry:
            await registry.register(LIVE)
            assert len(database.execute("SELECT * FROM ctl_instance")) == 1

    asyncio.run(scenario())


def test_all_connections_return_to_the_first_host_when_it_is_back(
    pair: tuple[PrivateDatabase, PrivateDatabase],
) -> None:
    """Two hosts at a time may be two clocks (rule 7)."""

    async def scenario() -> None:
        first, second = pair
        for database in pair:
            await prepare(database)
        async with over(pair, watch_absence=True) as registry:
            hosts = registry._database.hosts
            assert hosts is not None
            first.server.kill()
            await registry.register(LIVE)
            await registry.list()
            assert second.execute("SELECT model_name FROM ctl_instance") == [("qwen@llm",)]
            first.server.start()
            async with asyncio.timeout(30):
                while hosts.current != hosts.all[0]:
                    await asyncio.sleep(0.05)
            assert (await registry.list()).entries == (), "these two know nothing of each other"
            await registry.register(OTHER)
            assert first.execute("SELECT model_name FROM ctl_instance") == [("bge@text2vec",)]

    asyncio.run(scenario())


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_that_failed_comes_last_for_a_while() -> None:
    time = Time()
    hosts = DatabaseHosts(parse_hosts("a,b,c", 3306), time)
    a, b, c = hosts.all
    assert hosts.in_order() == [a, b, c]
    assert not hosts.failed(a), "it had not served"
    assert hosts.in_order() == [b, c, a]
    time.now += 1
    hosts.failed(b)
    assert hosts.in_order() == [c, a, b]
    time.now += AVOIDED_SECS - 1
    assert hosts.in_order() == [a, c, b]
    hosts.worked(b)
    assert hosts.in_order() == [a, b, c]


def test_it_is_named_as_it_is_written() -> None:
    assert str(DatabaseHosts(parse_hosts("db1,[::1]:3308", 3306), Time())) == "db1:3306,[::1]:3308"


def test_the_current_one_is_left_for_one_that_stands_before_it_once_that_may_be_back() -> None:
    time = Time()
    hosts = DatabaseHosts(parse_hosts("a,b,c", 3306), time)
    a, b, _ = hosts.all
    assert hosts.better() is None
    hosts.worked(a)
    assert hosts.better() is None
    assert hosts.failed(a)
    assert not hosts.failed(a), "of each of its connections"
    hosts.worked(b)
    assert hosts.better() is None
    time.now += AVOIDED_SECS
    assert hosts.better() == a
    hosts.failed(a)
    assert hosts.better() is None
    time.now += AVOIDED_SECS
    hosts.worked(a)
    assert (hosts.current, hosts.better()) == (a, None)
