"""Moving a live cluster from DB-GPT's own controller over a database to `ctl serve` on the same address: no worker is
restarted, and none is missing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine

from tests.support.dbgpt import CHECKOUT
from tests.support.dbgpt_cluster import BEAT_SECONDS, Lab, reference, start_worker
from tests.support.dbgpt_process import Process, free_port, get, until
from tests.support.dbgpt_table import create_dbgpt_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI
    from tests.support.mariadb import MariaDB

pytestmark = pytest.mark.interop


class Move:
    """One address, one database, and the controller that serves there."""

    def __init__(self, lab: Lab, mariadb: MariaDB) -> None:
        self.lab = lab
        self.mariadb = mariadb
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        server = mariadb.server
        self.variables = {
            "CONTROLLER_REGISTRY_TYPE": "database",
            "CONTROLLER_REGISTRY_DB_HOST": server.host,
            "CONTROLLER_REGISTRY_DB_PORT": str(server.port),
            "CONTROLLER_REGISTRY_DB_USER": server.user,
            "CONTROLLER_REGISTRY_DB_PASSWORD": server.password,
            "CONTROLLER_REGISTRY_DB_NAME": mariadb.name,
        }

    def start_dbgpt(self, release: Release) -> Process:
        """DB-GPT's own controller. It does not create its table."""
        engine = create_engine(self.mariadb.url)
        create_dbgpt_table(engine)
        engine.dispose()
        server = self.mariadb.server
        config = f"""
            [service.model.controller]
            host = "127.0.0.1"
            port = {self.port}
            heartbeat_interval_secs = {BEAT_SECONDS}
            heartbeat_timeout_secs = 60

            [service.model.controller.registry.database]
            type = "mysql"
            host = "{server.host}"
            port = {server.port}
            user = "{server.user}"
            password = "{server.password}"
            database = "{self.mariadb.name}"
        """
        return self._up(self.lab.dbgpt_start(release, "controller", "dbgpt-controller", config))

    def start_ctl(self) -> Process:
        argv = [sys.executable, "-m", "dbgpt_ctl", "serve", "--port", str(self.port), "--shutdown-grace-secs", "0"]
        return self._up(self.lab.start("ctl-serve", argv, self.lab.env(PYTHONPATH=str(CHECKOUT), **self.variables)))

    def _up(self, process: Process) -> Process:
        until(process.name, lambda: get(f"{self.url}/api/health"), process)
        return process

    def ctl(self, *args: str) -> str:
        done = self.lab.ctl(*args, **self.variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def beats(self) -> dict[str, str]:
        """The stored time of the last heartbeat of each model."""
        rows = self.mariadb.execute("SELECT model_name, last_heartbeat FROM ctl_instance")
        return {str(name): str(at) for name, at in rows}

    def instances(self) -> dict[str, dict[str, Any]]:
        return {reference(instance): instance for instance in get(f"{self.url}/api/controller/models") or []}


@pytest.fixture
def move(mariadb: MariaDB, new_lab: NewLab) -> Iterator[Move]:
    with new_lab("move") as lab:
        yield Move(lab, mariadb)


def test_a_live_cluster_moves(move: Move, newest: Release, openai: FakeOpenAI) -> None:
    old = move.start_dbgpt(newest)
    worker = start_worker(move.lab, newest, move.url, openai.base)
    wanted = {worker.model, worker.service}
    until("worker", lambda: healthy(move) >= wanted, old, worker.process)
    pid = worker.process.popen.pid
    theirs = set(move.instances())

    old.interrupt()
    assert "to import   2: 2 healthy" in move.ctl("db", "import", "--dry-run")
    assert "imported    2: 2 healthy" in move.ctl("db", "import")
    imported = move.beats()
    new = move.start_ctl()

    assert healthy(move) == wanted == theirs
    assert "all is well" in move.ctl("db", "check")
    # The service sends a heartbeat every 20 s.
    until("next beats", lambda: all(at > imported[name] for name, at in move.beats().items()), new, worker.process)
    assert healthy(move) == wanted
    assert worker.process.runs
    assert worker.process.popen.pid == pid
    log = new.log.read_text(encoding="utf-8")
    assert " registered by " not in log, f"it registered anew, or was unknown\n{log}"


def healthy(move: Move) -> set[str]:
    return {name for name, instance in move.instances().items() if instance["healthy"]}
