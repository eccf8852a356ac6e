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
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import URL

Server = TypeVar("Server", bound="DatabaseServer")
USER = "ctl"
PASSWORD = "s3cret/p@ss:w%rd"
"""Holds what a URL must escape, and stands in no error or log (tests grep for it)."""
PATIENCE_SECS = 60
SERVERS = ("mariadb", "mysql", "postgresql")
"""The servers on which a registry is tested, as fixtures name them."""


NO_TIME = "NO TIME"
"""Stands in SQL for what `no_time` is."""


def no_time(dialect: str) -> str:
    """An SQL literal that a column for times takes, and Python does not."""
    return "'infinity'" if dialect == "postgresql" else "'0000-00-00 00:00:00'"


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
    db_type: ClassVar[str]
    """The value of `registry_db_type`."""
    wrong_password: ClassVar[str]
    """How it refuses one."""

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
    def connect(self, database: str | None = None) -> Any:
        """A connection of the driver on which each statement is committed at once, unless it follows a BEGIN."""

    def execute(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Runs one statement on a connection of its own and returns the rows."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    @property
    @abstractmethod
    def errors(self) -> Mapping[str, Exception]:
        """The driver's errors for `deadlock`, `lock` (another held it for too long), `changed` (another was faster) and
        `lost` (the connection).
        """

    @abstractmethod
    def create_user(self, name: str, password: str, database: str, rights: str = "ALL PRIVILEGES") -> None:
        """A user, in place of one of that name, with these rights on the tables that are there."""

    @abstractmethod
    def drop_user(self, name: str, database: str) -> None:
        """Deletes a user of `create_user`."""

    @abstractmethod
    def set_read_only(self, *, is_on: bool) -> None:
        """Whether users other than the administrator may only read."""

    @abstractmethod
    def shift_clock(self, seconds: int) -> Sequence[str]:
        """The statements after which a session has another time."""

    @abstractmethod
    def idle_connections(self, database: str) -> list[object]:
        """The numbers of those that wait for a statement."""

    @abstractmethod
    def waits_for_locks(self) -> bool:
        """Whether a transaction waits for a row."""

    @abstractmethod
    def end_connection(self, number: object) -> None:
        """Ends one of `idle_connections`."""

    def read_latest(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """Runs one statement and returns the rows, with all that was committed through any server of the cluster."""
        return self.execute(statement, database)

    def create(self, database: str) -> None:
        """Creates the database unless it is there."""
        self.execute(f"CREATE DATABASE IF NOT EXISTS {database}")

    def drop(self, database: str) -> None:
        """Deletes the database if it is there, also while there are connections to it."""
        self.execute(f"DROP DATABASE IF EXISTS {database}")

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
        self.server.create(self.name)

    def drop(self) -> None:
        self.server.drop(self.name)

    @property
    def settings(self) -> dict[str, object]:
        """Those of a controller, without `registry_db_`."""
        server = self.server
        place = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
        return {"type": server.db_type, "name": self.name, **place}

    @property
    def variables(self) -> dict[str, str]:
        """The settings in the environment."""
        return {f"CONTROLLER_REGISTRY_DB_{name.upper()}": str(value) for name, value in self.settings.items()}

    def tables(self) -> list[object]:
        """Their names."""
        schemas = f"('{self.name}', 'public')"
        statement = f"SELECT table_name FROM information_schema.tables WHERE table_schema IN {schemas}"
        return [name for (name,) in self.execute(statement)]

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
