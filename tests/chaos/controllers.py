"""`ctl serve` over MariaDB as processes that come and go on the same address."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import TYPE_CHECKING

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.errors import ControllerError
from tests.chaos.wire import Wire
from tests.support.dbgpt_process import Process
from tests.support.ports import free_port
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.database_server import DatabaseServer

PATIENCE_SECS = 30.0
CONDITION_SECS = 60.0
DATABASE = "chaos"


@dataclass
class Controller:
    """One address. `start` waits until it is healthy."""

    folder: Path
    name: str
    servers: Sequence[DatabaseServer]
    options: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    program: Sequence[str] = field(default_factory=lambda: CTL)
    """Another release of `ctl`, from the next `start` on."""
    process: Process | None = None
    database: str = DATABASE

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        server = self.servers[0]
        hosts = ",".join(f"{each.host}:{each.port}" for each in self.servers)
        argv = [*self.program, "serve", "--port", str(self.port), "--registry", "database"]
        argv += ["--registry-db-type", server.db_type]
        argv += ["--registry-db-host", hosts, "--registry-db-name", self.database, "--registry-db-user", server.user]
        secret = {"CONTROLLER_REGISTRY_DB_PASSWORD": server.password}
        env = environment(secret | dict(self.environ))
        self.process = Process(self.name, [*argv, *self.options], env, self.folder)
        self.wait_until_healthy()

    def wait_until_healthy(self, seconds: float = PATIENCE_SECS) -> None:
        deadline = monotonic() + seconds
        with Wire(self.url) as wire:
            while (reply := wire.health()).status != 200:
                assert self.process
                assert self.process.runs, f"{self.name} ended\n{self.process.tail()}"
                assert monotonic() < deadline, f"{self.name} is not healthy: {reply}\n{self.process.tail()}"
                sleep(0.01)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def freeze(self) -> None:
        assert self.process
        self.process.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.popen.send_signal(signal.SIGCONT)

    def leave(self, seconds: float) -> None:
        """SIGTERM, and waits until it has left in good order."""
        assert self.process
        process, self.process = self.process, None
        process.popen.send_signal(signal.SIGTERM)
        try:
            code = process.popen.wait(seconds)
        finally:
            process.kill()
        assert code == 0, f"{self.name} left with {code}\n{process.tail()}"

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")


def until_each_is_so(
    controllers: Iterable[Controller], condition: Callable[[ControllerClient], bool], credentials: str = ""
) -> None:
    """Waits until the condition is true of every one of the controllers that runs. `credentials`: NAME:TOKEN."""
    deadline = monotonic() + CONDITION_SECS
    running = [controller for controller in controllers if controller.process is not None]
    while not all(_is_so(controller, condition, credentials) for controller in running):
        assert monotonic() < deadline, "\n".join(controller.log[-2000:] for controller in running)
        sleep(0.05)


def _is_so(controller: Controller, condition: Callable[[ControllerClient], bool], credentials: str) -> bool:
    with ControllerClient(controller.url.replace("://", f"://{credentials}@" if credentials else "://")) as client:
        try:
            return condition(client)
        except ControllerError:
            return False


@contextmanager
def controllers(
    folder: Path,
    servers: Sequence[DatabaseServer],
    count: int,
    *options: str,
    environs: Mapping[int, Mapping[str, str]] | None = None,
    program: Sequence[str] = CTL,
    database: str = DATABASE,
) -> Iterator[list[Controller]]:
    """So many controllers that run over one database; killed at the end."""
    servers[0].create(database)
    environ = environs or {}
    made = [
        Controller(
            folder,
            f"controller-{index + 1}",
            servers,
            options,
            environ.get(index, {}),
            program=program,
            database=database,
        )
        for index in range(count)
    ]
    try:
        for each in made:
            each.start()
        yield made
    finally:
        for each in made:
            each.kill()
