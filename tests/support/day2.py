"""What the tests of the pages for day 2 share: somebody who follows them, and a controller as a service."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.errors import ControllerError
from tests.support.ports import free_port
from tests.support.process import CTL, ctl, environment
from tests.support.walkthrough import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dbgpt_ctl.client.results import Inventory
    from tests.support.mariadb import MariaDBServer

DEADLINE_SECS = 40.0


def reader(home: Path, *urls: str, **environ: str) -> Reader:
    """Somebody whose `ctl` asks these controllers."""
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    env = {"HOME": str(home), "PATH": path, "COLUMNS": "120", "CONTROLLER_ADDRESS": ",".join(urls)}
    return Reader(home, environment(env | environ))


def until(what: str, url: str, condition: Callable[[Inventory], bool]) -> None:
    """Waits until the controller lists it so."""
    deadline = monotonic() + DEADLINE_SECS
    with ControllerClient(url) as client:
        while True:
            try:
                inventory = client.inventory()
                if condition(inventory):
                    return
                seen = str(inventory)
            except ControllerError as error:
                seen = str(error)
            assert monotonic() < deadline, f"not {what}: {seen}"
            sleep(0.05)


def database_variables(server: MariaDBServer) -> dict[str, str]:
    """What a controller's machine has for its database."""
    return {
        "CONTROLLER_REGISTRY_DB_HOST": f"{server.host}:{server.port}",
        "CONTROLLER_REGISTRY_DB_USER": server.user,
        "CONTROLLER_REGISTRY_DB_PASSWORD": server.password,
    }


@dataclass
class Service:
    """A controller in a folder, which the page starts and stops with systemctl."""

    folder: Path
    options: Sequence[str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    program: Sequence[str] = tuple(CTL)
    """Another release of `ctl`, from the next `start` on."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = [*self.program, "serve", "--port", str(self.port), "--shutdown-grace-secs", "0.1", *self.options]
        self.process = subprocess.Popen(argv, env=environment({}), cwd=self.folder, stderr=subprocess.DEVNULL)
        ctl("wait", "--controller", "--timeout", "30s", "-a", self.url)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(30) == 0
            self.process = None

    @property
    def instead(self) -> dict[str, Callable[[], None]]:
        return {"systemctl stop ctl": self.stop, "systemctl start ctl": self.start}


@contextmanager
def service(folder: Path, *options: str) -> Iterator[Service]:
    """It is stopped at the end."""
    one = Service(folder, options)
    one.start()
    try:
        yield one
    finally:
        one.stop()
