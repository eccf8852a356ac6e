"""The servers that are measured, as processes in a folder of their own."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.load import MODELS, fill
from benchmarks.report import MeasurementError, say
from tests.support.dbgpt import CHECKOUT, NEWEST
from tests.support.dbgpt_cluster import Lab
from tests.support.dbgpt_process import Process, get, until
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

CTL = Path(sys.executable).with_name("ctl")
OURS, THEIRS, BARE = "ctl", f"DB-GPT {NEWEST.version}", "bare ASGI"
TIMEOUT_SECS = 3600
"""No instance expires while others are measured, so a list of healthy instances keeps its length."""
NO_PROXY_THERE = "http://127.0.0.1:9"
"""Every download of a process fails at once."""
_IDLE_CPU_SECS, _LOOK_SECS, _SETTLE_SECS = 0.03, 0.2, 120


@dataclass(frozen=True)
class Server:
    """A server that answers. `name`: OURS, THEIRS or BARE; `instances`: how many it holds after `fill`."""

    name: str
    url: str
    process: Process
    instances: int

    def settle(self) -> None:
        """Waits until the server is idle: unanswered requests of the last load keep it busy."""
        until(f"rest of {self.name}", self._idles, self.process, seconds=_SETTLE_SECS)

    def fill(self, folder: Path, *, models: int = MODELS) -> None:
        """Registers the instances, and checks that all are listed."""
        speed = fill(folder, self.url, self.instances, models=models).per_second
        say(f"{self.name} registers {self.instances:,} instances, {speed:,.0f} a second")
        self.expect(models=models)

    def expect(self, *, models: int = MODELS) -> None:
        """Raises MeasurementError unless a list of one model is as long as it must be, and all in it are healthy."""
        listed = get(f"{self.url}/api/controller/models", model_name="m1@llm", healthy_only="true") or []
        wanted = self.instances // models
        if len(listed) != wanted or not all(instance["healthy"] for instance in listed):
            raise MeasurementError(f"{self.name} lists {len(listed)} of {wanted} instances of a model")

    def _idles(self) -> bool:
        before = self.cpu_secs()
        time.sleep(_LOOK_SECS)
        return self.cpu_secs() - before < _IDLE_CPU_SECS

    def cpu_secs(self) -> float:
        """Processor time of its processes so far, user and system."""
        process = psutil.Process(self.process.popen.pid)
        return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def lab_in(folder: Path, start: Any) -> Lab:
    return Lab(folder, NO_PROXY_THERE, start)


def start_ctl(
    lab: Lab, name: str, instances: int, *flags: str, env: Mapping[str, str] | None = None, ctl: Path = CTL
) -> Server:
    """`ctl serve`, by default of the environment that runs the benchmark."""
    if not ctl.exists():
        raise MeasurementError(f"there is no {ctl}: pip install -e . first")
    port = free_port()
    argv: list[str | Path] = [ctl, "serve", "--port", str(port), "--heartbeat-timeout-secs", str(TIMEOUT_SECS), *flags]
    return _serving(OURS, port, lab.start(name, argv, lab.env(**env or {})), instances)


def start_dbgpt(lab: Lab, name: str, instances: int, registry: str = "") -> Server:
    """DB-GPT's own controller. `registry` is TOML for a registry that is not in memory."""
    port = free_port()
    settings = f'host = "127.0.0.1"\nport = {port}\nheartbeat_timeout_secs = {TIMEOUT_SECS}\n'
    process = lab.dbgpt_start(NEWEST, "controller", name, f"[service.model.controller]\n{settings}{registry}")
    return _serving(THEIRS, port, process, instances)


def start_bare(lab: Lab, name: str, instances: int) -> Server:
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.bare", str(port), str(instances), str(MODELS)]
    process = lab.start(name, argv, lab.env(PYTHONPATH=str(CHECKOUT)))
    return _serving(BARE, port, process, instances)


def _serving(name: str, port: int, process: Process, instances: int) -> Server:
    server = Server(name, f"http://127.0.0.1:{port}", process, instances)
    until(f"health of {server.name}", lambda: get(f"{server.url}/api/health"), server.process)
    return server
