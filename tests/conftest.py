"""Fixtures that several suites share: a private MariaDB for the session, and in it a database for each test."""

from __future__ import annotations

import os
import signal
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.support.mariadb import MariaDB, missing_programs, private_mariadb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL

    from tests.support.mariadb import MariaDBServer

_NUMBERS = count(1)
_NOT_QUICK = ("interop", "package", "slow")
_LONGEST = ("package", "timeout")
"""Markers of tests that take a minute or more; `timeout` is that of a single test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `quick` what needs neither a MariaDB nor minutes. The longest tests come first, so that none is last."""
    items.sort(key=lambda item: not any(map(item.get_closest_marker, _LONGEST)))
    for item in items:
        if not any(map(item.get_closest_marker, _NOT_QUICK)) and not _uses_mariadb(item):
            item.add_marker(pytest.mark.quick)


def _uses_mariadb(item: pytest.Item) -> bool:
    """Whether a test uses the database server, as a fixture or as one of its kinds of registry."""
    fixtures = getattr(item, "fixturenames", ())
    parameters = getattr(item, "callspec", None)
    values = () if parameters is None else parameters.params.values()
    return "mariadb_server" in fixtures or "mariadb" in [value for value in values if isinstance(value, str)]


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
    missing = missing_programs()
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with private_mariadb() as server:
        yield server


@pytest.fixture
def mariadb(mariadb_server: MariaDBServer) -> Iterator[MariaDB]:
    """An empty database, dropped when the test is over."""
    database = MariaDB(mariadb_server, f"test_{next(_NUMBERS)}")
    database.create()
    yield database
    database.drop()


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> URL:
    """The address of an empty database."""
    return mariadb.url
