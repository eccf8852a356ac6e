"""Rows of the database that another program spoilt, under a controller that runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from time import monotonic, sleep
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.database_server import NO_TIME, SERVERS, no_time
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.hostile.conftest import Serve, Served
    from tests.support.database_server import PrivateDatabase

SOON_SECS = 60.0
GOOD, BAD = (
    {"model_name": "good@llm", "host": "10.0.0.4", "port": 1},
    {"model_name": "bad@llm", "host": "10.0.0.4", "port": 2},
)
CALLS = (
    ("GET", "/api/controller/models"),
    ("GET", "/api/controller/models?model_name=bad@llm"),
    ("GET", "/api/v1/instances"),
    ("GET", "/api/v1/instances/bad@llm/10.0.0.4/2"),
    ("GET", "/api/v1/events"),
    ("GET", "/api/v1/status"),
    ("GET", "/metrics"),
)


@pytest.fixture(params=["sqlite", *SERVERS])
def place(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Mapping[str, str], Callable[[str], object]]]:
    """The settings of a database, and a way to change it behind the controller's back."""
    if request.param == "sqlite":
        path = tmp_path / "ctl.db"

        def change(statement: str) -> None:
            with closing(sqlite3.connect(path, timeout=10)) as connection:
                connection.execute(statement.replace(NO_TIME, no_time("sqlite")))
                connection.commit()

        yield {"CONTROLLER_REGISTRY_DB_TYPE": "sqlite", "CONTROLLER_REGISTRY_DB_NAME": str(path)}, change
        return
    database: PrivateDatabase = request.getfixturevalue(request.param)

    def change_row(statement: str) -> None:
        with closing(database.server.connect(database.name)) as connection, connection.cursor() as cursor:
            if database.server.db_type == "mysql":
                cursor.execute("SET SESSION sql_mode = ''")
            cursor.execute(statement.replace(NO_TIME, no_time(database.server.db_type)))

    yield database.variables, change_row


@pytest.mark.parametrize("fault", ["announced_state = 'zombie'", f"last_heartbeat = {NO_TIME}"])
def test_a_spoilt_row_fails_nothing_else(
    serve: Serve, place: tuple[Mapping[str, str], Callable[[str], object]], fault: str
) -> None:
    env, change = place
    controller = serve("--registry-type", "database", "--heartbeat-interval-secs", "1", env=env)
    for instance in (GOOD, BAD):
        httpx.post(f"{controller.url}/api/controller/models", json=instance, timeout=10).raise_for_status()
    change(f"UPDATE ctl_instance SET {fault} WHERE port = 2")
    change("UPDATE ctl_event SET actor = 'ghost' WHERE id = 1")

    for method, path in CALLS:
        assert httpx.request(method, controller.url + path, timeout=10).status_code in {200, 404, 503}, path
    wait_until(lambda: "1 row of ctl_instance cannot be read" in status_of(controller), controller)
    assert controller.health().status_code == httpx.codes.OK
    assert listed(controller) == ["good"]
    done = ctl("db", "check", env=env, expect=1)
    assert "a row of ctl_instance cannot be read: bad@llm/10.0.0.4:2" in done.out
    assert "a row of ctl_event cannot be read: id 1" in done.out

    beat = httpx.post(f"{controller.url}/api/controller/heartbeat", json=BAD, timeout=10)
    assert beat.json() is True
    assert listed(controller) == ["bad", "good"]
    log = controller.process.log.read_text(encoding="utf-8")
    assert log.count("a row of ctl_instance cannot be read and is left out") == 1
    assert "Traceback" not in log


def listed(controller: Served) -> list[str]:
    rows = httpx.get(f"{controller.url}/api/controller/models", timeout=10).json()
    return sorted(row["model_name"].partition("@")[0] for row in rows)


def status_of(controller: Served) -> str:
    return httpx.get(f"{controller.url}/api/v1/status", timeout=10).text


def wait_until(condition: Callable[[], bool], controller: Served) -> None:
    deadline = monotonic() + SOON_SECS
    while not condition():
        assert monotonic() < deadline, controller.process.tail()
        sleep(0.1)
