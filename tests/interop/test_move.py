"""Moving a live cluster from DB-GPT's own controller over a database to `ctl serve` on the same address, with the
commands of docs/moving-from-dbgpt.md: no worker is restarted, and none is missing.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from dbgpt_ctl.domain.fields import sent_fields
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.support.dbgpt import CHECKOUT
from tests.support.dbgpt_cluster import BEAT_SECONDS, Lab, Worker, reference, start_worker
from tests.support.dbgpt_process import Process, get, until
from tests.support.dbgpt_table import create_dbgpt_registry
from tests.support.documents import blocks
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.database_server import PrivateDatabase
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop

DOCUMENT = CHECKOUT / "docs" / "moving-from-dbgpt.md"
LOOK, START, COPY, CHANGE_OVER, *CHECKS = (
    command.line for block in blocks(DOCUMENT) if block.kind == "console" for command in block.commands()
)
SQLITE = "--registry database --registry-db-type sqlite --registry-db-name ctl.db"
HOST = "127.0.0.1"
PARKED, UNTYPED = InstanceKey("parked@llm", HOST, 9), InstanceKey("untyped", HOST, 9)
COPIES = 6


class Move:
    """The two addresses of the document, and what serves there. `variables` name the new registry."""

    def __init__(self, lab: Lab, mariadb: PrivateDatabase, *, in_database: bool) -> None:
        self.lab = lab
        self.mariadb = mariadb
        self.old, self.new = free_port(), free_port()
        self.url, self.new_url = (f"http://{HOST}:{port}" for port in (self.old, self.new))
        self.in_database = in_database
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
        server = self.mariadb.server
        config = f"""
            [service.model.controller]
            host = "{HOST}"
            port = {self.old}
            heartbeat_interval_secs = {BEAT_SECONDS}
            heartbeat_timeout_secs = 3600
        """
        registry = create_dbgpt_registry(server, self.mariadb.name, server.user, server.password)
        return up(self.lab.dbgpt_start(release, "controller", "dbgpt-controller", config + registry), self.url)

    def start_ctl(self, line: str, url: str) -> Process:
        """Starts `ctl serve` as the document does."""
        line = self.here(line)
        if self.in_database:
            line = line.replace(SQLITE, "")
        argv = [sys.executable, "-m", "dbgpt_ctl", *shlex.split(line)[1:], "--shutdown-grace-secs", "0"]
        env = self.variables if self.in_database else {}
        return up(self.lab.start("ctl-serve", argv, self.lab.env(PYTHONPATH=str(CHECKOUT), **env)), url)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Types a line of the document, without the variables of the registry."""
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", self.here(line)],
            env=self.lab.env(CONTROLLER_ADDRESS=self.url) | {"PATH": path},
            cwd=self.lab.folder,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def here(self, line: str) -> str:
        """With the ports of this test."""
        return line.replace("0.0.0.0", HOST).replace("8000", str(self.old)).replace("8001", str(self.new))


def up(process: Process, url: str) -> Process:
    until(process.name, lambda: get(f"{url}/api/health"), process)
    return process


def register(url: str, key: InstanceKey, **facts: Any) -> httpx.Response:
    return httpx.post(f"{url}/api/controller/models", json=sent_fields(Registration(key, **facts)))


def register_at_once(url: str, numbers: Iterator[int]) -> bool:
    """Registers a new instance several times at once; some of these may fail there. Whether DB-GPT's controller stores
    it more than once now.
    """
    key = InstanceKey(f"busy{next(numbers)}@llm", HOST, 9)
    with ThreadPoolExecutor(COPIES) as threads:
        list(threads.map(lambda _: register(url, key), range(COPIES)))
    return len(get(f"{url}/api/controller/models", model_name=key.model_name) or []) > 1


def listed(url: str, **query: str) -> dict[str, dict[str, Any]]:
    return {reference(instance): instance for instance in get(f"{url}/api/controller/models", **query) or []}


def routable(url: str) -> set[str]:
    return set(listed(url, healthy_only="true"))


@pytest.fixture(params=["sqlite", "database"])
def move(request: pytest.FixtureRequest, mariadb: PrivateDatabase, new_lab: NewLab) -> Iterator[Move]:
    with new_lab("move") as lab:
        yield Move(lab, mariadb, in_database=request.param == "database")


@pytest.fixture
def worker(move: Move, newest: Release, openai: FakeOpenAI) -> tuple[Process, Worker]:
    """DB-GPT's controller and a worker that is healthy there."""
    old = move.start_dbgpt(newest)
    worker = start_worker(move.lab, newest, move.url, openai.base)
    until("worker", lambda: routable(move.url) >= {worker.model, worker.service}, old, worker.process)
    return old, worker


def test_a_live_cluster_moves(move: Move, worker: tuple[Process, Worker]) -> None:
    old, one = worker
    parked = str(PARKED)
    numbers = count(1)
    until("duplicates", lambda: register_at_once(move.url, numbers), old)
    register(move.url, PARKED, weight=2.0, enabled=False).raise_for_status()
    wanted = set(listed(move.url)) - {parked}
    assert wanted > {one.model, one.service}
    new = move.start_ctl(START, move.new_url)

    copied = move.run(COPY)
    assert copied.returncode == 0, copied
    assert "lists an instance more than once" in copied.stderr
    assert routable(move.new_url) == wanted
    assert set(listed(move.new_url)) == wanted | {parked}
    assert (listed(move.new_url)[parked]["enabled"], listed(move.new_url)[parked]["weight"]) == (False, 2.0)

    old.interrupt()
    new.terminate()
    new = move.start_ctl(CHANGE_OVER, move.url)
    assert routable(move.url) == wanted
    moved = listed(move.url)
    # The service sends a heartbeat every 20 s.
    until("next beats", lambda: has_beaten(move, moved, one.model, one.service), new, one.process)
    assert {one.model, one.service} <= routable(move.url)
    assert one.process.runs
    log = new.log.read_text(encoding="utf-8")
    assert f"{one.model} registered by 127.0.0.1 (worker)" not in log, f"it registered anew, or was unknown\n{log}"
    assert one.model.partition("@")[0] in move.run(CHECKS[0]).stdout
    assert "not-registered" not in move.run(CHECKS[1]).stdout


def has_beaten(move: Move, before: dict[str, dict[str, Any]], *references: str) -> bool:
    now = listed(move.url)
    return all(now[each]["last_heartbeat"] > before[each]["last_heartbeat"] for each in references)


@pytest.mark.parametrize("move", ["sqlite"], indirect=True)
def test_what_cannot_move_is_named_before(move: Move, newest: Release) -> None:
    old = move.start_dbgpt(newest)
    numbers = count(1)
    until("duplicates", lambda: register_at_once(move.url, numbers), old)
    register(move.url, UNTYPED).raise_for_status()
    looked = move.run(LOOK)
    assert looked.returncode == 5
    moving = {f"{entry['model']}/{HOST}:9" for entry in yaml.safe_load(looked.stdout)["instances"]}
    assert moving == set(listed(move.url)) - {str(UNTYPED)}
    refused, duplicates = looked.stderr.splitlines()
    assert refused.startswith("ctl: untyped@/127.0.0.1:9 left out: model_name 'untyped' is not NAME@TYPE")
    assert re.fullmatch(
        rf"ctl: \d+ duplicate rows? left out: {move.url} lists an instance more than once; .+", duplicates
    )
