"""Fixtures that several suites share: database servers for the session, and in them a database for each test."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.support.database_server import SERVERS, DatabaseServer, PrivateDatabase, private_server
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.mysql_server import MySQLServer
from tests.support.mysql_server import missing_programs as missing_mysql
from tests.support.postgresql_server import PostgreSQLServer
from tests.support.postgresql_server import missing_programs as missing_postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = count(1)
_NOT_QUICK = ("interop", "package", "slow")
_LONGEST = ("package", "timeout")
"""Markers of tests that take a minute or more; `timeout` is that of a single test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `quick` what needs no database server and no minutes. The longest come first, so that none is last."""
    items.sort(key=lambda item: not any(map(item.get_closest_marker, _LONGEST)))
    for item in items:
        servers = [name for name in SERVERS if _uses(name, item)]
        for server in {"mysql", "postgresql"}.intersection(servers):
            item.add_marker(server)
        if not servers and not any(map(item.get_closest_marker, _NOT_QUICK)):
            item.add_marker(pytest.mark.quick)


def _uses(server: str, item: pytest.Item) -> bool:
    """Whether a test uses it, as a fixture or as one of its kinds of registry."""
    fixtures = getattr(item, "fixturenames", ())
    parameters = getattr(item, "callspec", None)
    values = () if parameters is None else parameters.params.values()
    return f"{server}_server" in fixtures or any(value == server for value in values if isinstance(value, str))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints what tests measured: `record_property("figure", text)`."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            if name == "figure":
                terminalreporter.write_line(f"{report.nodeid}: {text}")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A background job of a shell ignores SIGINT, and under nohup SIGHUP; started processes would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The event loop of tests marked `anyio`."""
    return "asyncio"


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDBServer]:
    """Runs for the whole session. In CI its absence is a failure."""
    _require(missing_programs())
    with private_server(MariaDBServer) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """Runs for the whole session. In CI its absence is a failure."""
    _require(missing_postgresql())
    with private_server(PostgreSQLServer) as server:
        yield server


def _require(missing: str | None) -> None:
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[MySQLServer]:
    """MySQL itself, for the whole session. Debian's packages of it move: in CI too its absence is no failure."""
    if missing := missing_mysql():
        pytest.skip(missing)
    with private_server(MySQLServer) as server:
        yield server


@pytest.fixture(scope="session", params=SERVERS)
def database_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Each of SERVERS in turn."""
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, DatabaseServer)
    return server


@pytest.fixture
def database(database_server: DatabaseServer) -> Iterator[PrivateDatabase]:
    """An empty database on each server in turn, dropped when the test is over."""
    with _database(database_server) as database:
        yield database


@pytest.fixture(params=("mariadb", "mysql"))
def mysql_family(request: pytest.FixtureRequest) -> PrivateDatabase:
    """An empty database on MariaDB and on MySQL, for what is of their own."""
    database = request.getfixturevalue(request.param)
    assert isinstance(database, PrivateDatabase)
    return database


@pytest.fixture
def mariadb(mariadb_server: MariaDBServer) -> Iterator[PrivateDatabase]:
    """An empty database on MariaDB, also for tests to which the server makes no difference."""
    with _database(mariadb_server) as database:
        yield database


@pytest.fixture
def mysql(mysql_server: MySQLServer) -> Iterator[PrivateDatabase]:
    """An empty database on MySQL."""
    with _database(mysql_server) as database:
        yield database


@pytest.fixture
def postgresql(postgresql_server: PostgreSQLServer) -> Iterator[PrivateDatabase]:
    """An empty database on PostgreSQL."""
    with _database(postgresql_server) as database:
        yield database


@contextmanager
def _database(server: DatabaseServer) -> Iterator[PrivateDatabase]:
    database = PrivateDatabase(server, f"test_{next(_NUMBERS)}")
    database.create()
    yield database
    database.drop()
