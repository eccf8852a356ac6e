"""A night on call, on real processes: what `ctl` prints and how it exits while one thing after the other goes wrong.

Two controllers share one MariaDB; three models run on three hosts. `night/*.txt` holds what each command prints at each
step, for a person to read: no step may claim more than is known.

    CTL_UPDATE_GOLDEN=1 python -m pytest tests/story/test_a_night.py      writes the files anew; then read the diff

Times, ages and ports differ from run to run: words stand in their place.
"""

from __future__ import annotations

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl import __version__
from dbgpt_ctl.cli.parsing.references import reference_of
from dbgpt_ctl.domain.instance import InstanceState
from tests.chaos.controllers import Controller, controllers, until_each_is_so
from tests.chaos.wire import Instance, Reply, Wire
from tests.support.document_runs import without_overload
from tests.support.mariadb import missing_programs, private_mariadb
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dbgpt_ctl.client.responses import Inventory
    from tests.support.mariadb import MariaDBServer

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "night"
UPDATES = bool(os.environ.get("CTL_UPDATE_GOLDEN"))
TIMEOUT_SECS, OTHER_TIMEOUT_SECS = 12, 600
BEAT_SECS = 0.5
GAP_SECS = 6.0
"""Longer than two ticks of the registry may be apart: afterwards states are held."""
INSTANCES = (
    Instance("qwen3@llm", 8001, "10.0.0.4"),
    Instance("qwen3@llm", 8001, "10.0.0.5"),
    Instance("qwen3@llm", 8001, "10.0.0.6"),
    Instance("glm4@llm", 8002, "10.0.0.4"),
    Instance("glm4@llm", 8002, "10.0.0.5"),
    Instance("bge@text2vec", 8003, "10.0.0.6"),
)
DRAINED_HOST = "10.0.0.4"
GLM = "glm4@llm/10.0.0.5:8002"
COMMANDS = (
    ("models", "list", "-o", "wide"),
    ("status",),
    ("why", "qwen3", "--no-probe"),
    ("why", "glm4", "--no-probe"),
    ("doctor", "--no-probe"),
    ("health",),
    ("assert", "qwen3", "--min-healthy", "2"),
    ("wait", "qwen3", "--for", "healthy>=2", "--timeout", "1s"),
    ("wait", "glm4", "--for", "unhealthy=0", "--timeout", "1s"),
)
_MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?= UTC)"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)?ms\b"), "LATENCY"),
    (re.compile(r"\b\d+ of at most \d+\b"), "N of at most N"),
    (re.compile(r"\b\d+[smhd](?= ago| more)"), "AGE"),
    (re.compile(r"(?<=in )(?:2h|119m)\b"), "2h"),
    (re.compile(r"\b\d+ missed"), "N missed"),
    (re.compile(rf"{re.escape(__version__)} +\d+[smhd]\b"), "VERSION  AGE"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
)


_SHARED = re.compile(r"(.*?)(http://controller-1, http://controller-2)(: its registry is away.*)")


class Workers:
    """Workers that send heartbeats, each to the first controller that answers. `alive` are those that still do."""

    def __init__(self, controllers: Sequence[Controller]) -> None:
        self.alive: tuple[Instance, ...] = ()
        self._controllers = controllers
        self._over = Event()
        self._thread = Thread(target=self._beat, name="workers")

    @contextmanager
    def running(self) -> Iterator[Workers]:
        """They beat until the end of the block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()

    def start(self) -> None:
        """Starts all: each registers first."""
        for instance in INSTANCES:
            assert self._send(Wire.register, instance).is_acknowledged
        self.alive = INSTANCES

    def stop(self, host: str, model_name: str = "") -> None:
        """Stops those of a host, or of one model there."""
        self.alive = tuple(
            worker for worker in self.alive if worker.host != host or model_name not in ("", worker.model_name)
        )

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECS):
            for worker in self.alive:
                self._send(Wire.heartbeat, worker)

    def _send(self, call: Callable[[Wire, Instance], Reply], instance: Instance) -> Reply:
        reply = Reply(0, b"", None, 0.0)
        for controller in self._controllers:
            with Wire(controller.url, timeout=5) as wire:
                reply = call(wire, instance)
            if reply.status == 200:
                break
        return reply


@dataclass
class Night:
    """The cluster, and what `ctl` prints about it."""

    server: MariaDBServer
    controllers: list[Controller]
    workers: Workers
    step: int = 0
    differences: list[str] = field(default_factory=list)

    def take(self, action: Callable[[Night], None]) -> None:
        """Takes a step, then compares what each command prints with what is kept."""
        action(self)
        with ThreadPoolExecutor(4) as threads:
            found = "\n".join(threads.map(self._printed, COMMANDS))
        file = FOLDER / file_name(self.step, action)
        self.step += 1
        if UPDATES:
            assert not os.environ.get("CI"), "CTL_UPDATE_GOLDEN is set: nothing would be tested"
            file.write_text(found, encoding="utf-8")
        kept = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = (kept.splitlines(keepends=True), found.splitlines(keepends=True))
        self.differences += unified_diff(*lines, file.name, "now")

    def ctl(self, *args: str) -> None:
        """Runs a command that must succeed."""
        subprocess.run([*CTL, *args], env=self._environ, check=True, capture_output=True)

    def restart(self, index: int, *options: str) -> None:
        """Restarts one controller with these options; the other one serves meanwhile."""
        controller = self.controllers[index]
        controller.kill()
        controller.options = options
        controller.start()

    def wait_until(self, condition: Callable[[Inventory], bool]) -> None:
        """Waits until the condition is true of what every running controller lists."""
        until_each_is_so(self.controllers, lambda client: condition(client.inventory()))

    def wait_until_reason(self, condition: Callable[[str], bool]) -> None:
        """Waits until the condition is true of the reason that every running controller gives for its health."""
        until_each_is_so(self.controllers, lambda client: condition(client.status().reason or ""))

    def wait_until_unhealthy(self, host: str, model_name: str = "") -> None:
        """Waits until these instances are unhealthy at every controller, and their expiry is announced."""

        def expired(inventory: Inventory) -> bool:
            return all(
                known.state is InstanceState.UNHEALTHY and known.flaps
                for known in inventory.instances
                if known.host == host and model_name in ("", known.model_name)
            )

        self.wait_until(expired)

    @property
    def _environ(self) -> dict[str, str]:
        return environment({"CONTROLLER_ADDRESS": ",".join(controller.url for controller in self.controllers)})

    def _printed(self, args: Sequence[str]) -> str:
        done = subprocess.run([*CTL, *args], env=self._environ, capture_output=True, encoding="utf-8", check=False)
        lines = [*without_overload(done.stdout).splitlines(), *(f"stderr: {line}" for line in done.stderr.splitlines())]
        shown = "".join(f"{one.rstrip()}\n" for line in lines for one in _separate(self._masked(line)))
        return f"$ ctl {' '.join(args)}\n{shown}exit {done.returncode}\n"

    def _masked(self, line: str) -> str:
        for number, controller in enumerate(self.controllers, 1):
            line = line.replace(f"127.0.0.1:{controller.port}", f"controller-{number}")
        line = line.replace(f"127.0.0.1:{self.server.port}", "database")
        for pattern, word in _MASKS:
            line = pattern.sub(word, line)
        return line


def _separate(line: str) -> Iterator[str]:
    """One line for each controller: those whose last known lists happen to be of the same second share a line."""
    shared = _SHARED.fullmatch(line)
    if shared is None:
        yield line
        return
    before, controllers, after = shared.groups()
    yield from (f"{before}{controller}{after}" for controller in controllers.split(", "))


def all_is_well(night: Night) -> None:
    night.workers.start()
    night.wait_until(lambda inventory: len(inventory.instances) == len(INSTANCES))


def a_host_is_drained(night: Night) -> None:
    night.ctl("models", "drain", "--host", DRAINED_HOST, "--yes", "--reason", "new driver", "--for", "2h")


def the_drained_host_stops(night: Night) -> None:
    night.workers.stop(DRAINED_HOST)
    night.wait_until_unhealthy(DRAINED_HOST)


def another_worker_dies(night: Night) -> None:
    night.workers.stop("10.0.0.5", "qwen3@llm")
    night.wait_until_unhealthy("10.0.0.5", "qwen3@llm")


def one_is_deregistered_and_beats_on(night: Night) -> None:
    night.ctl("models", "deregister", GLM)
    night.wait_until(
        lambda inventory: any(known.refused_at for known in inventory.instances if reference_of(known.key) == GLM)
    )


def one_controller_gets_another_timeout(night: Night) -> None:
    night.restart(1, *options(OTHER_TIMEOUT_SECS))
    night.wait_until_reason(lambda reason: "differ" in reason)


def the_timeouts_are_the_same_again(night: Night) -> None:
    night.restart(1, *options(TIMEOUT_SECS))
    night.wait_until_reason(lambda reason: "differ" not in reason)


def the_database_stops(night: Night) -> None:
    night.server.stop()
    night.wait_until(lambda inventory: inventory.stale_since is not None)


def the_database_is_back(night: Night) -> None:
    night.server.start()
    night.wait_until(lambda inventory: inventory.stale_since is None and inventory.held_until is None)


def a_controller_dies(night: Night) -> None:
    night.controllers[0].kill()


def all_controllers_were_away(night: Night) -> None:
    night.controllers[1].kill()
    night.workers.stop("10.0.0.6", "qwen3@llm")
    sleep(GAP_SECS)  # the absence is the step
    for controller in night.controllers:
        controller.start()
    night.wait_until(lambda inventory: inventory.held_until is not None)


def in_the_morning_all_is_well(night: Night) -> None:
    night.workers.start()
    night.ctl("models", "undrain", "--host", DRAINED_HOST, "--yes")
    night.wait_until(lambda inventory: inventory.held_until is None)


STEPS = (
    all_is_well,
    a_host_is_drained,
    the_drained_host_stops,
    another_worker_dies,
    one_is_deregistered_and_beats_on,
    one_controller_gets_another_timeout,
    the_timeouts_are_the_same_again,
    the_database_stops,
    the_database_is_back,
    a_controller_dies,
    all_controllers_were_away,
    in_the_morning_all_is_well,
)


def options(timeout_secs: int) -> tuple[str, ...]:
    """The flags of a controller."""
    return "--heartbeat-timeout-secs", str(timeout_secs), "--heartbeat-interval-secs", "4"


def file_name(step: int, action: Callable[[Night], None]) -> str:
    return f"{step:02}-{action.__name__.replace('_', '-')}.txt"


def test_a_night_on_call(tmp_path: Path) -> None:
    if missing := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    with (
        private_mariadb() as server,
        controllers(tmp_path, [server], 2, *options(TIMEOUT_SECS)) as running,
        Workers(running).running() as workers,
    ):
        night = Night(server, running, workers)
        for action in STEPS:
            night.take(action)
    assert not night.differences, "".join(night.differences)
    assert [file.name for file in sorted(FOLDER.iterdir())] == [file_name(*step) for step in enumerate(STEPS)]
