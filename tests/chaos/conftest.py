"""What a scenario needs, and the report of what each of them measured."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.database_server import SERVERS, DatabaseServer, private_server
from tests.support.faketime import missing_faketime
from tests.support.galera import missing_for_galera
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.mysql_server import MySQLServer
from tests.support.mysql_server import missing_programs as missing_mysql
from tests.support.postgresql_server import PostgreSQLServer
from tests.support.postgresql_server import missing_programs as missing_postgresql

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT = Path(__file__).resolve().parents[2]
_FIGURES = pytest.StashKey[dict[str, dict[str, Any]]]()


class Figures:
    """What one scenario measured. `summary` prints as one line, and stands in the report under the scenario's name."""

    def __init__(self, kept: dict[str, dict[str, Any]]) -> None:
        self._kept = kept

    def summary(self, scenario: str, **figures: float) -> None:
        rounded = {name: round(value, 2) if isinstance(value, float) else value for name, value in figures.items()}
        self._kept[scenario] = rounded


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> Figures:
    return Figures(pytestconfig.stash.setdefault(_FIGURES, {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """One line per scenario, and all of them as JSON in the file that CTL_CHAOS_REPORT names."""
    measured = config.stash.get(_FIGURES, {})
    if not measured:
        return
    terminalreporter.section("chaos")
    for scenario, figures in measured.items():
        told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        terminalreporter.write_line(f"{scenario}: {told}")
    report = Path(os.environ.get("CTL_CHAOS_REPORT") or ROOT / "build" / "chaos.json")
    report.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(report.read_text()) if report.exists() else {}
    report.write_text(json.dumps(before | measured, indent=2) + "\n")
    terminalreporter.write_line(f"written to {report}")


def need(missing: str | None) -> None:
    """Skips where a service is missing; in CI that is a failure."""
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


@pytest.fixture
def durable_mariadb() -> Iterator[MariaDBServer]:
    """A server of the test's own whose commits are on disk when they return."""
    need(missing_programs())
    with private_server(MariaDBServer, durable=True) as server:
        yield server


@pytest.fixture(params=SERVERS)
def durable_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """One of each kind in turn, as `durable_mariadb`."""
    server = request.getfixturevalue(f"durable_{request.param}")
    assert isinstance(server, DatabaseServer)
    return server


@pytest.fixture
def durable_mysql() -> Iterator[MySQLServer]:
    """As `durable_mariadb`. Debian's packages of it move: in CI too its absence is no failure."""
    if missing := missing_mysql():
        pytest.skip(missing)
    with private_server(MySQLServer, durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_programs() -> None:
    need(missing_postgresql())


@pytest.fixture
def durable_postgresql() -> Iterator[PostgreSQLServer]:
    """As `durable_mariadb`."""
    need(missing_postgresql())
    with private_server(PostgreSQLServer, durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def galera() -> None:
    need(missing_for_galera())


@pytest.fixture(scope="session")
def faketime() -> None:
    need(missing_faketime())
