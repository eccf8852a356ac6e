"""`ctl serve` with a registry in SQLite, as a process that comes and goes on the same address."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.dbgpt_process import Process, get, until
from tests.support.ports import free_port
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Controller:
    """One address. Its registry survives a restart."""

    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it serves."""
        argv = [*CTL, "serve", "--port", str(self.port), "--registry", "database", "--registry-db-type", "sqlite"]
        argv += ["--registry-db-name", str(self.folder / "ctl.db"), *self.options]
        self.process = Process(f"controller-{self.port}", argv, environment({}), self.folder)
        until("controller", lambda: get(f"{self.url}/api/health"), self.process)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process = None


@contextmanager
def running_controller(folder: Path, *options: str) -> Iterator[Controller]:
    """Killed at the end. Authentication is off, unless the options say otherwise."""
    controller = Controller(folder, options)
    try:
        controller.start()
        yield controller
    finally:
        controller.kill()
