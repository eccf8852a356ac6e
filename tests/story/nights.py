"""A scripted night on call, on real processes: what `ctl` prints and how it exits while one thing fails after another.

Two controllers share one MariaDB. A folder of text files holds what each command prints at each step, for a person to
read: no step may claim more than is known.

    CTL_UPDATE_GOLDEN=1 python -m pytest tests/story -k night      writes the files anew; then read the diff

Times, ages and ports differ from run to run: words stand in their place.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl import __version__
from dbgpt_ctl.domain.hosts import is_loopback
from dbgpt_ctl.domain.instance import InstanceState
from tests.chaos.controllers import Controller, controllers, until_each_is_so
from tests.chaos.wire import Instance, Reply, Wire
from tests.support.database_server import private_server
from tests.support.document_runs import UPDATES, without_overload
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.process import Finished, ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dbgpt_ctl.client.results import Inventory
    from dbgpt_ctl.client.sync import ControllerClient

BEAT_SECS = 0.5
_MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?= UTC)"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)?ms\b"), "LATENCY"),
    (re.compile(r"\b\d+ of at most \d+\b"), "N of at most N"),
    (re.compile(r"(?<=in )(?:2h|119m)\b"), "2h"),
    (re.compile(r"\b\d+ missed"), "N missed"),
    (re.compile(r"\b[\d,]+(?= heartbeats from)"), "N"),
    (re.compile(r"(?<=digest )[0-9a-f]{12}"), "DIGEST"),
    (re.compile(r"\b(?:299|301)(?= s ahead)"), "300"),
    (re.compile(r"(?<=expires in )\d+[smhd], at .{16} UTC"), "TIME"),
    (re.compile(r"(?<=healthy for )\d+[smhd]"), "AGE"),
    (re.compile(rf"{re.escape(__version__)} +\d+[smhd]\b"), "VERSION  AGE"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
)
_AGE = re.compile(r"\b(\d+)([smhd])(?= ago| more)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHARED = re.compile(r"(.*?)(http://controller-1, http://controller-2)(: its registry is away.*)")


class Workers:
    """Workers that send heartbeats, each to the first controller that serves. `alive` are those that still do.

    Those of a loopback address call from it.
    """

    def __init__(self, controllers: Sequence[Controller], instances: tuple[Instance, ...]) -> None:
        self.instances = instances
        self.alive: tuple[Instance, ...] = ()
        self.credentials: dict[str, str] = {}
        """NAME:TOKEN by host."""
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
        for instance in self.instances:
            assert self._send(Wire.register, instance).is_acknowledged
        self.alive = self.instances

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
        credentials = self.credentials.get(instance.host, "")
        source = instance.host if is_loopback(instance.host) else ""
        for controller in self._controllers:
            with Wire(controller.url, 5, credentials=credentials, source=source) as wire:
                reply = call(wire, instance)
            if reply.status not in (0, 503):
                break
        return reply


@dataclass
class Night:
    """The cluster, and what `ctl` prints about it."""

    server: MariaDBServer
    controllers: list[Controller]
    workers: Workers
    folder: Path
    """Of the files."""
    names: dict[str, str]
    """What stands in the files for a HOST:PORT, or a path, of this run."""
    began: float
    """On the monotonic clock."""
    address: str = "http://controller-1,http://controller-2"
    """Which `ctl` asks, in these names."""
    environ: dict[str, str] = field(default_factory=dict)
    """More variables of `ctl`."""
    files: list[Path] = field(default_factory=list)
    """Of the steps that are taken."""
    differences: list[str] = field(default_factory=list)

    def take(self, action: Callable[[Night], None], commands: Iterable[str], *, patience_secs: float = 0.0) -> None:
        """Takes a step, then compares what each command prints with what is kept. For `patience_secs` the commands are
        run again where they differ.
        """
        action(self)
        deadline, commands = monotonic() + patience_secs, tuple(commands)
        file = self.folder / f"{len(self.files):02}-{action.__name__.replace('_', '-')}.txt"
        self.files.append(file)
        found = self._run(commands)
        while not UPDATES and found != _text_of(file) and monotonic() < deadline:
            found = self._run(commands)
        if UPDATES:
            assert not os.environ.get("CI"), "CTL_UPDATE_GOLDEN is set: nothing would be tested"
            file.write_text(found, encoding="utf-8")
        lines = (_text_of(file).splitlines(keepends=True), found.splitlines(keepends=True))
        self.differences += unified_diff(*lines, file.name, "now")

    def _run(self, commands: Iterable[str]) -> str:
        with ThreadPoolExecutor(4) as threads:
            return "\n".join(threads.map(self._printed, commands))

    def ctl(self, *args: str) -> Finished:
        """Runs a command that must succeed."""
        return ctl(*args, env=self._environ)

    def restart(self, index: int, *options: str, environ: Mapping[str, str] | None = None) -> None:
        """Restarts one controller with these options and variables; the other one serves meanwhile."""
        controller = self.controllers[index]
        controller.kill()
        controller.options, controller.environ = options, environ or {}
        controller.start()

    def wait_until(self, condition: Callable[[Inventory], bool]) -> None:
        """Waits until the condition is true of what every running controller lists."""
        self.wait_until_client(lambda client: condition(client.inventory()))

    def wait_until_reason(self, condition: Callable[[str], bool]) -> None:
        """Waits until the condition is true of the reason that every running controller gives for its health."""
        self.wait_until_client(lambda client: condition(client.status().registry.reason or ""))

    def wait_until_client(self, condition: Callable[[ControllerClient], bool]) -> None:
        """Waits until the condition is true of every running controller, as this client of it sees it."""
        until_each_is_so(self.controllers, condition, self.environ.get("CTL_TOKEN", ""))

    def wait_until_unhealthy(self, host: str, model_name: str = "") -> None:
        """Waits until these instances are unhealthy at every controller, and their expiry is announced."""

        def expired(inventory: Inventory) -> bool:
            return all(
                known.state is InstanceState.UNHEALTHY and known.flaps
                for known in inventory.instances
                if known.host == host and model_name in ("", known.model_name)
            )

        self.wait_until(expired)

    def check(self) -> None:
        """Fails where a step printed something else than is kept, and where a file belongs to no step."""
        assert not self.differences, "".join(self.differences)
        assert sorted(self.folder.iterdir()) == self.files

    @property
    def _environ(self) -> dict[str, str]:
        return {"CONTROLLER_ADDRESS": self._real(self.address)} | self.environ

    def _real(self, text: str) -> str:
        for place, name in self.names.items():
            text = text.replace(f"http://{name}", f"http://{place}")
        return text

    def _printed(self, command: str) -> str:
        done = ctl(*self._real(command).split(), env=self._environ, expect=None)
        lines = [*without_overload(done.out).splitlines(), *(f"stderr: {line}" for line in done.err.splitlines())]
        shown = "".join(f"{one.rstrip()}\n" for line in lines for one in _separate(self._masked(line)))
        return f"$ ctl {command}\n{shown}exit {done.code}\n"

    def _masked(self, line: str) -> str:
        for place, name in self.names.items():
            line = line.replace(place, name)
        for pattern, word in _MASKS:
            line = pattern.sub(word, line)
        return _AGE.sub(self._masked_age, line)

    def _masked_age(self, age: re.Match[str]) -> str:
        """An age that goes back before the night is wrong, and stays as it is."""
        return "AGE" if int(age[1]) * _SECONDS[age[2]] <= monotonic() - self.began else age[0]


def _separate(line: str) -> Iterator[str]:
    """One line for each controller: those whose last known lists happen to be of the same second share a line."""
    shared = _SHARED.fullmatch(line)
    if shared is None:
        yield line
        return
    before, controllers, after = shared.groups()
    yield from (f"{before}{controller}{after}" for controller in controllers.split(", "))


def options(timeout_secs: int) -> tuple[str, ...]:
    """The flags of a controller."""
    return "--heartbeat-timeout-secs", str(timeout_secs), "--heartbeat-interval-secs", "4"


@contextmanager
def night_on_call(tmp_path: Path, folder: Path, instances: tuple[Instance, ...], *flags: str) -> Iterator[Night]:
    """The cluster at the begin of the night: no worker runs. In CI a missing program is a failure."""
    if missing := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    began = monotonic()
    with (
        private_server(MariaDBServer) as server,
        controllers(tmp_path, [server], 2, *flags) as running,
        Workers(running, instances).running() as workers,
    ):
        names = {f"127.0.0.1:{controller.port}": controller.name for controller in running}
        yield Night(server, running, workers, folder, names | {f"127.0.0.1:{server.port}": "database"}, began)


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
