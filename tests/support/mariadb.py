"""A private mariadbd: in a temporary folder, on a free loopback port, ended by its own process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pymysql
from sqlalchemy import URL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

USER = "ctl"
PASSWORD = "s3cret/p@ss:w%rd"
"""Holds what a URL must escape, and stands in no error or log (tests grep for it)."""
_DAEMON_DIRS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")
_PATIENCE_SECS = 60


def missing_programs() -> str | None:
    """What must be installed before a server can be started; None when all is there."""
    absent = [name for name in ("mariadbd", "mariadb-install-db") if _program(name) is None]
    return f"{' and '.join(absent)} not found: apt-get install mariadb-server" if absent else None


def _program(name: str) -> str | None:
    path = os.pathsep.join((os.environ.get("PATH", ""), *_DAEMON_DIRS))
    return shutil.which(name, path=path)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class MariaDBServer:
    """One server and its data. Without `durable` commits spare the fsync: kill -9 of the server still loses nothing.
    `environ`: variables that it gets beside those of this process.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    host: str = "127.0.0.1"
    user: str = USER
    password: str = PASSWORD
    durable: bool = False
    options: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def temporary(self) -> Path:
        """A server that starts deletes the temporary tables in this folder: with a common one, those of all servers."""
        return self.folder / "tmp"

    def install(self) -> None:
        """Creates an empty data folder and the user, who may do everything."""
        installer = _program("mariadb-install-db")
        assert installer, missing_programs()
        self.temporary.mkdir(parents=True)
        subprocess.run(
            [
                installer,
                "--no-defaults",
                f"--datadir={self.folder / 'data'}",
                f"--tmpdir={self.temporary}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                *_as_user(),
            ],
            check=True,
            capture_output=True,
        )
        literal = self.password.replace("\\", "\\\\").replace("'", "''")
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{literal}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{self.user}'@'%' WITH GRANT OPTION;\n"
        )

    def start(self) -> None:
        """Starts it on its port and returns when it answers."""
        daemon = _program("mariadbd")
        assert daemon, missing_programs()
        with (self.folder / "mariadbd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [daemon, *self._arguments()],
                env={**os.environ, **self.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = monotonic() + _PATIENCE_SECS
        while not self._answers():
            if self.process.poll() is not None or monotonic() > deadline:
                self.kill()
                raise RuntimeError(
                    f"mariadbd did not start:\n{(self.folder / 'mariadbd.log').read_text(errors='replace')[-3000:]}"
                )
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

    def url(self, database: str | None) -> URL:
        """The address as the registry takes it."""
        return URL.create("mysql+pymysql", self.user, self.password, self.host, self.port, database)

    def execute(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Runs one statement on a connection of its own and returns the rows."""
        connection = pymysql.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=database,
            autocommit=True,
            connect_timeout=2,
            read_timeout=60,
            charset="utf8mb4",
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.err.OperationalError):
            return self.execute("SELECT 1") == [(1,)]
        return False

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
            self.process.send_signal(signal.SIGCONT)
        self.process.wait(_PATIENCE_SECS)
        self.process = None

    def _arguments(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.temporary}",
            f"--socket={self.folder / 'sock'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self.folder / 'init.sql'}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--innodb-flush-log-at-trx-commit={1 if self.durable else 2}",
            "--innodb-buffer-pool-size=128M",
            "--innodb-log-file-size=96M",
            "--performance-schema=OFF",
            "--skip-name-resolve",
            "--skip-log-bin",
            *_as_user(),
            *self.options,
        ]


def _as_user() -> list[str]:
    """As root the daemon wants to be told that root is meant."""
    return ["--user=root"] if os.geteuid() == 0 else []


def _state(thread: Path) -> str:
    """R, S, T ...: the letter after the command's name, which is in parentheses and may hold anything."""
    return (thread / "stat").read_text().rpartition(") ")[2][0]


@dataclass(frozen=True)
class MariaDB:
    """One database of a server."""

    server: MariaDBServer
    name: str

    @property
    def url(self) -> URL:
        """As the registry takes it."""
        return self.server.url(self.name)

    def create(self) -> None:
        self.server.execute(f"CREATE DATABASE `{self.name}`")

    def drop(self) -> None:
        self.server.execute(f"DROP DATABASE `{self.name}`")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement on a connection of its own and returns the rows."""
        return self.server.execute(statement, self.name)


@contextlib.contextmanager
def private_mariadb(
    *,
    durable: bool = False,
    options: Sequence[str] = (),
    user: str = USER,
    password: str = PASSWORD,
    port: int | None = None,
) -> Iterator[MariaDBServer]:
    """A running server with data of its own; both are gone afterwards. Without `port` it has a free one."""
    # The path of a Unix socket has at most 107 bytes: not pytest's tmp_path.
    with tempfile.TemporaryDirectory(prefix="ctl-mariadb-") as folder:
        server = MariaDBServer(
            Path(folder), port=port or free_port(), user=user, password=password, durable=durable, options=options
        )
        server.install()
        try:
            server.start()
            yield server
        finally:
            server.kill()
