"""`ctl db check|upgrade` over each database. The rules are tested with the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import URL, create_engine

from dbgpt_ctl.registry.database.tables.schema import READABLE_BY, SCHEMA_VERSION
from tests.registry.database.support import dump
from tests.support.database_server import PASSWORD, SERVERS
from tests.support.ports import free_port
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.support.database_server import PrivateDatabase


class Place:
    """A database that the variables name."""

    def __init__(self, url: URL, shown: str) -> None:
        self.url = url
        self.shown = shown
        """How reports name it."""

    def dump(self) -> dict[str, list[Any]]:
        engine = create_engine(self.url)
        with engine.connect() as connection:
            found = dump(connection)
        engine.dispose()
        return found


@pytest.fixture(params=["sqlite", *SERVERS])
def place(request: pytest.FixtureRequest, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param in SERVERS:
        database: PrivateDatabase = request.getfixturevalue(request.param)
        for name, text in database.variables.items():
            monkeypatch.setenv(name, text)
        yield Place(database.url, f"127.0.0.1:{database.server.port}/{database.name}")
    else:
        file = str(tmp_path / "dbgpt.db")
        monkeypatch.setenv("CONTROLLER_REGISTRY_DB_TYPE", "sqlite")
        monkeypatch.setenv("CONTROLLER_REGISTRY_DB_NAME", file)
        yield Place(URL.create("sqlite", database=file), file)


# --- check and upgrade --------------------------------------------------------------------------------------------


def test_check_and_upgrade(run: Run, place: Place) -> None:
    if place.url.get_backend_name() != "sqlite":
        done = run("db", "check", expect=1)
        assert done.lines[1] == f"schema    version absent, this release has {SCHEMA_VERSION}"
        assert done.lines[-1].startswith(f"problem: {place.shown} does not hold the tables of ctl: ")
    assert run("db", "upgrade").lines == [f"{place.shown} holds the tables now, at schema version {SCHEMA_VERSION}"]
    before = place.dump()
    assert run("db", "upgrade").lines == [f"{place.shown} is at schema version {SCHEMA_VERSION} already"]
    report = {"database": place.shown, "from": SCHEMA_VERSION, "to": SCHEMA_VERSION}
    assert json.loads(run("db", "upgrade", "-o", "json").out) == report
    done = run("db", "check")
    name, schema, _, controllers, clock, *findings = done.lines
    assert name == f"database     {place.shown}"
    assert schema == f"schema       version {SCHEMA_VERSION}, this release has {SCHEMA_VERSION}"
    assert controllers == "controllers  none is running"
    assert clock.startswith("clock        ")
    assert findings == ["all is well"]
    checked = json.loads(run("db", "check", "-o", "json").out)
    assert checked["findings"] == []
    assert checked["schema"] == {"version": SCHEMA_VERSION, "readable_by": READABLE_BY, "newest": SCHEMA_VERSION}
    assert checked["instances"] == {"healthy": 0, "unhealthy": 0, "deregistered": 0, "drained": 0, "removed": 0}
    assert [abs(clock["ahead_secs"]) < 5 for clock in checked["clocks"]] == [True]
    assert checked["controllers"] == []
    assert place.dump() == before


def test_a_newer_schema_is_one_line(run: Run, place: Place) -> None:
    run("db", "upgrade")
    engine = create_engine(place.url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE ctl_schema SET version = 99, readable_by = 99")
    engine.dispose()
    done = run("db", "upgrade", expect=1)
    assert done.out == ""
    assert done.err.startswith("ctl: ")
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1
    assert "schema version 99" in done.err
    assert "schema version 99" in run("db", "check", expect=1).out


def test_check_of_a_file_that_is_not_there_makes_none(run: Run, tmp_path: Path) -> None:
    flags = ["--registry-db-type", "sqlite", "--registry-db-name", "none.db"]
    done = run("db", "check", *flags, expect=3)
    assert done.err == "ctl: database none.db: no such file; name another or start a controller\n"
    assert list(tmp_path.iterdir()) == []


# --- settings and faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["check", "upgrade"])
class TestFaults:
    def test_a_wrong_password(
        self, run: Run, database: PrivateDatabase, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        for name, text in database.variables.items():
            monkeypatch.setenv(name, text)
        monkeypatch.setenv("CONTROLLER_REGISTRY_DB_PASSWORD", f"{PASSWORD}-not")
        done = run("db", verb, expect=1)
        assert done.out == ""
        assert done.err.count("\n") == 1
        assert done.err.startswith(
            f"ctl: database 127.0.0.1:{database.server.port}/{database.name}: {database.server.wrong_password}"
        )
        assert PASSWORD not in done.err

    def test_nobody_at_the_port(self, run: Run, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
        port = str(free_port())
        flags = ["--registry-db-host", "127.0.0.1", "--registry-db-port", port, "--registry_db_user", "ctl"]
        monkeypatch.setenv("CONTROLLER_REGISTRY_DB_PASSWORD", PASSWORD)
        done = run("db", verb, *flags, expect=3)
        assert done.out == ""
        assert done.err.count("\n") == 1
        assert done.err.startswith(f"ctl: database 127.0.0.1:{port}/dbgpt: ")

    def test_what_is_missing_is_named_at_once(self, run: Run, verb: str) -> None:
        done = run("db", verb, "--registry-db-user", "ctl", expect=2)
        assert done.err == (
            "ctl: a mysql registry needs registry_db_host (CONTROLLER_REGISTRY_DB_HOST), registry_db_password "
            "(CONTROLLER_REGISTRY_DB_PASSWORD) or registry_db_password_file "
            "(CONTROLLER_REGISTRY_DB_PASSWORD_FILE): set the variables or give the flags\n"
        )

    def test_the_type_of_the_registry_need_not_be_said(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, verb: str
    ) -> None:
        """The variables may still be those of the controller before the move; a flag that says so is a mistake."""
        monkeypatch.setenv("CONTROLLER_REGISTRY_TYPE", "embedded")
        monkeypatch.setenv("CONTROLLER_REMOTE_ADDR", "http://127.0.0.1:1")
        assert "registry_db_host" in run("db", verb, expect=2).err
        assert "registry_db_host" in run("db", verb, "--registry", "database", expect=2).err
        done = run("db", verb, "--registry-type", "embedded", expect=2)
        assert done.err == "ctl: registry_type embedded has no database: leave the flag out\n"


def test_of_several_hosts_the_one_that_lives_serves(
    run: Run, database: PrivateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = f"127.0.0.1:{free_port()}", f"127.0.0.1:{database.server.port}"
    for name, text in database.variables.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("CONTROLLER_REGISTRY_DB_HOST", f"{dead},{alive}")
    assert "holds the tables now" in run("db", "upgrade").out
    done = run("db", "check", expect=1)
    assert f"clock 1      {dead}/{database.name} does not answer" in done.lines
    assert [line for line in done.lines if line.startswith(f"clock 2      {alive}/{database.name} is 0.")]
    (problem,) = [line for line in done.lines if line.startswith("problem: ")]
    assert problem.startswith(f"problem: database {dead}/{database.name}: ")
    assert problem.endswith(": start it or take it off the list of hosts")
    assert PASSWORD not in done.out + done.err


@pytest.mark.parametrize("verb", ["check", "upgrade"])
def test_a_password_from_a_file(
    run: Run, database: PrivateDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    for name, text in database.variables.items():
        monkeypatch.setenv(name, text)
    assert "are both set: leave one" in run("db", verb, "--registry-db-password-file", str(file), expect=2).err
    monkeypatch.delenv("CONTROLLER_REGISTRY_DB_PASSWORD")
    done = run("db", verb, "--registry-db-password-file", str(file), expect=1 if verb == "check" else 0)
    assert "process list" not in done.err
    assert PASSWORD not in done.out + done.err


def test_a_password_given_as_a_flag_is_warned_of(
    run: Run, database: PrivateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in database.variables.items():
        monkeypatch.setenv(name, text)
    done = run("db", "upgrade", "--registry-db-password", PASSWORD)
    assert done.err == (
        "ctl: warning: other users of this machine can read --registry-db-password in the process list: use "
        "--registry-db-password-file or the variable CONTROLLER_REGISTRY_DB_PASSWORD\n"
    )


def test_the_start_of_other_commands_pays_nothing_for_it() -> None:
    code = (
        "import sys, dbgpt_ctl.cli.commands.db; "
        "print([name for name in ('sqlalchemy', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_help() -> None:
    for command in ("check", "upgrade"):
        text = ctl("db", command, "--help").out
        assert "--registry-db-host" in text
        assert "--log-file" not in text
        assert "  --host" not in text
