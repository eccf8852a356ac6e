"""A private PostgreSQL server of Debian's packages."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import URL

from tests.support.database_server import PATIENCE_SECS, DatabaseServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import trustme

_RELEASES = Path("/usr/lib/postgresql")
_ACCOUNT = "postgres"
"""The server does not run as root: as root it runs as this user."""
_MAINTENANCE = "postgres"
"""The database in which others are created."""


def missing_programs() -> str | None:
    """What must be installed before a server can be started; None when all is there."""
    return None if any(_RELEASES.glob("*/bin/initdb")) else "no PostgreSQL server: apt-get install postgresql"


class PostgreSQLServer(DatabaseServer):
    """The newest release that is installed. It has a process for each connection: all of them are killed and frozen."""

    product = "PostgreSQL"
    db_type = "postgresql"
    wrong_password = "password authentication failed"

    @property
    def programs(self) -> Path:
        """The folder of its programs."""
        return max(_RELEASES.glob("*/bin"), key=lambda folder: int(folder.parent.name))

    @property
    def data(self) -> Path:
        """The folder of its data."""
        return self.folder / "data"

    def install(self) -> None:
        self.prepare_folder()
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        self.run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={self.user}",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        )
        password.unlink()

    def prepare_folder(self) -> None:
        """Gives the folder to the user of the server."""
        if os.geteuid() == 0:
            shutil.chown(self.folder, _ACCOUNT, _ACCOUNT)

    def run(self, name: str, *arguments: str) -> None:
        """Runs one of the programs to its end, as the user of the server."""
        command = [*_as_account(), str(self.programs / name), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, env={**os.environ, **self.environ})

    def command(self) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": self.host,
            "unix_socket_directories": "",
            "fsync": "on" if self.durable else "off",
            "shared_buffers": "64MB",
            "max_connections": 200,
            "max_wal_size": "256MB",
            "lc_messages": "C",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [*_as_account(), str(self.programs / "postgres"), "-D", str(self.data), *options, *self.options]

    def url(self, database: str | None) -> URL:
        return URL.create("postgresql+psycopg", self.user, self.password, self.host, self.port, database)

    def connect(self, database: str | None = None) -> Any:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database or _MAINTENANCE,
            autocommit=True,
            connect_timeout=2,
        )

    @property
    def errors(self) -> dict[str, Exception]:
        return {
            "deadlock": psycopg.errors.DeadlockDetected("deadlock detected"),
            "lock": psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"),
            "changed": psycopg.errors.SerializationFailure("could not serialize access"),
            "lost": psycopg.OperationalError("server closed the connection unexpectedly"),
        }

    def create_user(self, name: str, password: str, database: str, rights: str = "ALL PRIVILEGES") -> None:
        self.drop_user(name, database)
        self.execute(f"CREATE USER {name} PASSWORD '{password}'")
        self.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}", database)

    def drop_user(self, name: str, database: str) -> None:
        if self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
            self.execute(f"DROP OWNED BY {name}", database)
            self.execute(f"DROP USER {name}")

    def set_read_only(self, *, is_on: bool) -> None:
        value = "on" if is_on else "off"
        self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        self.execute("SELECT pg_reload_conf()")
        while self.execute("SHOW default_transaction_read_only") != [(value,)]:  # all processes are told before
            pass

    def shift_clock(self, seconds: int) -> list[str]:
        shifted = f"pg_catalog.statement_timestamp() + interval '{seconds} seconds'"
        function = f"shifted.statement_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT {shifted} $$"
        return [
            "CREATE SCHEMA IF NOT EXISTS shifted",
            f"CREATE OR REPLACE FUNCTION {function}",
            "SET search_path = shifted, pg_catalog, public",
        ]

    def idle_connections(self, database: str) -> list[object]:
        where = f"datname = '{database}' AND state = 'idle'"
        return [number for (number,) in self.execute(f"SELECT pid FROM pg_stat_activity WHERE {where}")]

    def waits_for_locks(self) -> bool:
        return bool(self.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))

    def end_connection(self, number: object) -> None:
        self.execute(f"SELECT pg_terminate_backend({number})")

    def encrypt(self, certificate: trustme.LeafCert) -> None:
        """From now on it takes only encrypted connections of others than its administrator's own."""
        for name, pem in (("key", certificate.private_key_pem), ("crt", certificate.cert_chain_pems[0])):
            file = self.data / f"server.{name}"
            file.write_bytes(pem.bytes())
            file.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(file, _ACCOUNT, _ACCOUNT)
        (self.data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        self.execute("ALTER SYSTEM SET ssl = on")
        self.execute("SELECT pg_reload_conf()")

    def create(self, database: str) -> None:
        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{database}'"):
            self.execute(f"CREATE DATABASE {database}")

    def drop(self, database: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def lock_holders(self) -> set[object]:
        """Those that hold a transaction's own number: that is taken with the first change or lock of a row."""
        statement = "SELECT pid FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
        return {number for (number,) in self.execute(statement)}

    def answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            return self.execute("SELECT 1") == [(1,)]
        return False

    def stop(self) -> None:
        """A clean shutdown that waits for no client."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE_SECS)
            self.process = None

    def kill(self) -> None:
        self._signal_all(signal.SIGKILL)
        super().kill()

    def freeze(self) -> None:
        super().freeze()  # it makes no more children then
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, how: signal.Signals) -> None:
        for process in list(self._processes()):  # those of a dead one are not known any more
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, how)

    def _processes(self) -> Iterator[int]:
        """Itself and its children."""
        if self.process is not None:
            yield self.process.pid
            with contextlib.suppress(FileNotFoundError):
                children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
                yield from map(int, children.split())


def _as_account() -> list[str]:
    """What comes before a command that must not run as root; it becomes that command, with the same process id."""
    if os.geteuid() != 0:
        return []
    account = pwd.getpwnam(_ACCOUNT)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
