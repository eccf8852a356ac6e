"""Workers whose instances are all unhealthy, and why: first their heartbeats are refused, then a rack is down.

Two controllers share one MariaDB, and each counts for itself what it refuses. Each worker sends from the address that
it registers, all of which are loopback addresses.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.chaos.controllers import controllers
from tests.support.database_server import private_server
from tests.support.dbgpt_process import until
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

RACK = ("127.0.2.1", "127.0.2.2", "127.0.2.3")
OTHERS = ("127.0.1.1", "127.0.1.2")
BEAT_SECS = 0.5
CODES = ["no-healthy-instance", "workers-refused", "timeout-short"]
"""The last one is of a test that does not want to wait for a minute."""


class Workers:
    """One worker on each host, without a token. They take turns with the controllers."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.alive: tuple[str, ...] = RACK + OTHERS
        self._places = cycle([urlsplit(url) for url in urls])
        self._over = Event()

    @contextmanager
    def running(self) -> Iterator[Workers]:
        thread = Thread(target=self._beat, name="workers")
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECS):
            for host in self.alive:
                self._send(host)

    def _send(self, host: str) -> None:
        place = next(self._places)
        connection = HTTPConnection(str(place.hostname), place.port, timeout=20, source_address=(host, 0))
        body = json.dumps({"model_name": "qwen3@llm", "host": host, "port": 8001})
        connection.request("POST", "/api/controller/heartbeat", body, {"Content-Type": "application/json"})
        connection.getresponse().read()
        connection.close()


class OnCall:
    """Who asks `ctl`, and edits the tokens file of both controllers."""

    def __init__(self, tokens: Path) -> None:
        self._environ = {"CONTROLLER_TOKENS_FILE": str(tokens)}
        made = json.loads(self.ctl("token", "create", "on-call", "--role", "operator", "-o", "json"))
        self._environ["CTL_TOKEN"] = made["token"]
        self.ctl("auth", "mode", "log")

    def look_at(self, urls: Sequence[str]) -> None:
        self._environ["CONTROLLER_ADDRESS"] = ",".join(urls)

    def ctl(self, *args: str) -> str:
        return ctl(*args, env=self._environ, expect=None).out

    def report(self, *args: str) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.ctl(*args, "--no-probe", "-o", "json"))
        return report

    def wait_until_served(self, number: int, code: str = "") -> dict[str, Any]:
        """The report of `ctl doctor` once this number of instances get requests, both controllers agree on them, and
        there is a finding of that code: on a busy machine another worker may be late at first.
        """

        def look() -> dict[str, Any] | None:
            report = self.report("doctor")
            codes = [finding["code"] for finding in report["findings"]]
            is_found = "states-disagree" not in codes and (not code or code in codes)
            return report if report["get_requests"] == number and is_found else None

        return until(f"{number} instances that get requests", look)


def test_why_workers_are_silent(tmp_path: Path) -> None:
    if missing := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    on_call = OnCall(tmp_path / "tokens.toml")
    options = ("--heartbeat-timeout-secs", "12", "--tokens-file", str(tmp_path / "tokens.toml"))
    with private_server(MariaDBServer) as server, controllers(tmp_path, [server], 2, *options) as running:
        urls = [controller.url for controller in running]
        on_call.look_at(urls)
        with Workers(urls).running() as workers:
            on_call.wait_until_served(5)
            tokens_are_enforced_on_workers_that_have_none(on_call)
            on_call.ctl("auth", "mode", "log")
            on_call.wait_until_served(5)
            workers.alive = OTHERS
            a_rack_is_down(on_call)


def tokens_are_enforced_on_workers_that_have_none(on_call: OnCall) -> None:
    on_call.ctl("auth", "mode", "enforce")
    findings = on_call.wait_until_served(0)["findings"]
    assert [finding["code"] for finding in findings] == CODES
    assert [line.partition(", the last one")[0] for line in masked(findings[1]["evidence"])] == [
        f"qwen3@llm/{host}:8001: N heartbeats from {host} were refused" for host in sorted(RACK + OTHERS)
    ]
    assert "prune" not in findings[1]["fix"]
    assert [finding["code"] for finding in on_call.report("why", "qwen3")["findings"]] == CODES
    [line] = (line for line in on_call.ctl("models", "get", f"qwen3/{RACK[0]}:8001").splitlines() if "refused" in line)
    assert line.endswith(": no token")
    refused = [line for line in on_call.ctl("status").splitlines() if "[workers-refused]" in line]
    assert len(refused) == 5


def a_rack_is_down(on_call: OnCall) -> None:
    findings = on_call.wait_until_served(2, "host-silent")["findings"]
    [down] = [finding for finding in findings if finding["code"] == "host-silent"]
    assert down["summary"] == "3 hosts fell silent at the same time, with 3 instances"
    assert [instance["host"] for instance in down["instances"]] == list(RACK)
    assert not any("models prune" in finding["fix"] for finding in findings)


def masked(lines: Sequence[str]) -> list[str]:
    return [re.sub(r"\b[\d,]+(?= heartbeats)", "N", line) for line in lines]
