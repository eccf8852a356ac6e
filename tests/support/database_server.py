"""A private database server: in a temporary folder, on a free loopback port, ended by its own process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, ClassVar, TypeVar

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import URL

Server = TypeVar("Server", bound="DatabaseServer")
USER = "ctl"
PASSWORD = "s3cret/p@ss:w%rd"
"""Holds what a URL must escape, and stands in no error or log (tests grep for it)."""
PATIENCE_SECS = 60
SERVERS = ("mariadb", "mysql")
"""The servers on which a registry is tested, as fixtures name them."""


def program(name: str, folders: Sequence[str] = ()) -> str | None:
    """Where it is, in PATH or in one of the folders."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *folders)))


@dataclass
class DatabaseServer(ABC):
    """One server and its data. Without `durable` commits spare the fsync: kill -9 of the server still loses nothing.
    `environ`: variables that it gets beside those of this process.
    """

    product: ClassVar[str]
    """Its name as people write it."""

    folder: Path
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    user: str = USER
    password: str = PASSWORD
    durable: bool = False
    options: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def install(self) -> None:
        """Creates an empty data folder and the user, who may do everything."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that starts it."""

    @abstractmethod
    def url(self, database: str | None) -> URL:
        """The address as the registry takes it."""

    @abstractmethod
    def execute(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Runs one statement on a connection of its own and returns the rows."""

    def read_latest(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """Runs one statement and returns the rows, with all that was committed through any server of the cluster."""
        return self.execute(statement, database)

    @abstractmethod
    def lock_holders(self) -> set[object]:
        """The transactions that have changed or locked rows."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves."""

    @property
    def temporary(self) -> Path:
        """A server that starts deletes the temporary tables in this folder: with a common one, those of all servers."""
        return self.folder / "tmp"

    def start(self) -> None:
        """Starts it on its port and returns when it answers."""
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = monotonic() + PATIENCE_SECS
        while not self.answers():
            if self.process.poll() is not None or monotonic() > deadline:
                self.kill()
                text = (self.folder / "server.log").read_text(errors="replace")
                raise RuntimeError(f"the database server did not start:\n{text[-3000:]}")
            sleep(0.02)

    def stop(self) -> None:
        """A clean shutdown."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It keeps its connections and answers none (SIGSTOP). Returns when all of its threads stand still."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.process.pid}/task")
        while any(_state(thread) != "T" for thread in threads.iterdir()):
            sleep(0.001)

    def resume(self) -> None:
        """Undoes `freeze`."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
        self.process.wait(PATIENCE_SECS)
        self.process = None


def _state(thread: Path) -> str:
    """R, S, T ...: the letter after the command's name, which is in parentheses and may hold anything."""
    return (thread / "stat").read_text().rpartition(") ")[2][0]


@dataclass(frozen=True)
class PrivateDatabase:
    """One database of a server."""

    server: DatabaseServer
    name: str

    @property
    def url(self) -> URL:
        """As the registry takes it."""
        return self.server.url(self.name)

    def create(self) -> None:
        self.server.execute(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        self.server.execute(f"DROP DATABASE {self.name}")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement on a connection of its own and returns the rows."""
        return self.server.execute(statement, self.name)


@contextlib.contextmanager
def private_server(
    kind: type[Server],
    *,
    durable: bool = False,
    options: Sequence[str] = (),
    user: str = USER,
    password: str = PASSWORD,
    port: int | None = None,
) -> Iterator[Server]:
    """A running server with data of its own; both are gone afterwards. Without `port` it has a free one."""
    # The path of a Unix socket has at most 107 bytes: not pytest's tmp_path.
    with tempfile.TemporaryDirectory(prefix="ctl-database-") as folder:
        server = kind(
            Path(folder), port=port or free_port(), user=user, password=password, durable=durable, options=options
        )
        server.install()
        try:
            server.start()
            yield server
        finally:
            server.kill()
