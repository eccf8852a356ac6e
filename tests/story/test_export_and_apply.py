"""A large cluster goes through files: from memory to MariaDB and back, by real commands, and arrives as it was."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dbgpt_process import Process, get, until
from tests.support.ports import free_port
from tests.support.process import CTL, ctl, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.database_server import PrivateDatabase

pytestmark = pytest.mark.slow

COUNT = 10_000
TYPES = ("llm", "text2vec", "reranker", "service")
DRAINED_EACH = COUNT // 200
SERVE = ("--heartbeat-timeout-secs", "3600", "--shutdown-grace-secs", "0", "--log-level", "warning")
"""No instance expires on the way."""
PATIENCE_SECS = 600.0
"""On a machine that does much else."""
A_MINUTE = timedelta(minutes=1)


def instance(number: int, now: datetime) -> dict[str, Any]:
    """An entry of the file: every type, every fact, and 200 that are drained in one of four ways."""
    entry: dict[str, Any] = {
        "model": f"model-{number % 40}@{TYPES[number % len(TYPES)]}",
        "host": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}" if number % 9 else f"[fd00::{number:x}]",
        "port": 8000 + number % 3,
    }
    if number % 7 == 0:
        entry["weight"] = number / 8 + 0.5
    if number % DRAINED_EACH == 0:
        until = (now + timedelta(hours=1 + number % 100)).isoformat(timespec="seconds").replace("+00:00", "Z")
        drain = {"reason": f"GPU {number}: 'new' driver", "until": until}
        which = number // DRAINED_EACH % 4
        if which == 3:
            entry["enabled"] = False
        else:
            entry["drain"] = [drain, {"reason": drain["reason"]}, {"until": until}][which]
    if number % 11 == 0:
        entry["prompt_template"] = ("chatml", "1e5", "聊天")[number % 3]
    if number % 13 == 0:
        entry["check_healthy"] = False
    return entry


class Place:
    """A controller as a process of its own."""

    def __init__(self, folder: Path, name: str, *flags: str, **variables: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = [*CTL, "serve", "--port", str(port), *SERVE, *flags]
        self.process = Process(name, argv, environment(variables), folder)
        self.file = folder / f"{name}.yaml"

    def answers(self) -> bool:
        return get(f"{self.url}/api/health") is not None

    def ctl(self, *args: str) -> str:
        done = ctl(*args, "-q", "-a", self.url, timeout=PATIENCE_SECS)
        assert done.err == ""
        return done.out

    def apply(self, file: Path) -> list[str]:
        return self.ctl("apply", "-f", str(file)).splitlines()

    def export(self) -> Path:
        self.file.write_text(self.ctl("export"))
        return self.file

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ctl("models", "list", "-o", "json", "--full"))
        return found


def facts(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the times: those of the ends of drains are `ends`."""
    kept = ("model_name", "host", "port", "weight", "check_healthy", "enabled", "prompt_template", "state")
    return [{name: each[name] for name in kept} | {"reason": (each["drain"] or {}).get("reason")} for each in listed]


def ends(listed: list[dict[str, Any]]) -> list[datetime]:
    """The ends of drains, in order of identity."""
    drains = [each["drain"] for each in listed]
    return [datetime.fromisoformat(drain["until"]) for drain in drains if drain and drain["until"]]


@pytest.fixture
def places(tmp_path: Path, mariadb: PrivateDatabase) -> Iterator[list[Place]]:
    """In memory, over MariaDB, and in memory again: each empty."""
    server = mariadb.server
    address = ("--registry-db-host", server.host, "--registry-db-port", str(server.port))
    database = (
        "--registry",
        "database",
        *address,
        "--registry-db-user",
        server.user,
        "--registry-db-name",
        mariadb.name,
    )
    with ExitStack() as stack:
        made = [
            Place(tmp_path, "first"),
            Place(tmp_path, "second", *database, CONTROLLER_REGISTRY_DB_PASSWORD=server.password),
            Place(tmp_path, "third"),
        ]
        for place in made:
            stack.callback(place.process.kill)
            until(place.process.name, place.answers, place.process)
        yield made


def test_a_large_cluster_arrives_as_it_was(places: list[Place], tmp_path: Path) -> None:
    entries = [instance(number, datetime.now(UTC)) for number in range(COUNT)]
    file = tmp_path / "declared.json"
    file.write_text(json.dumps({"instances": entries}))
    first, second, third = places
    assert len(first.apply(file)) == COUNT
    before = first.listed()
    assert (len(before), sum(not each["enabled"] for each in before), len(ends(before))) == (COUNT, 200, 100)
    exported = first.export()
    assert exported.read_bytes() == first.export().read_bytes()
    for target in (second, third):
        assert len(target.apply(exported)) == COUNT
        after = target.listed()
        assert facts(after) == facts(before)
        assert all(abs(end - wanted) < A_MINUTE for end, wanted in zip(ends(after), ends(before), strict=True))
        exported = target.export()
    assert third.ctl("diff", "-f", str(second.file)) == third.ctl("diff", "-f", str(file)) == ""
