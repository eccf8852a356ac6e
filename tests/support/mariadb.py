"""A private mariadbd."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from typing import Any

import pymysql
from sqlalchemy import URL

from tests.support.database_server import DatabaseServer, program

_DAEMON_DIRS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")


def missing_programs() -> str | None:
    """What must be installed before a server can be started; None when all is there."""
    absent = [name for name in ("mariadbd", "mariadb-install-db") if program(name, _DAEMON_DIRS) is None]
    return f"{' and '.join(absent)} not found: apt-get install mariadb-server" if absent else None


@dataclass
class MariaDBServer(DatabaseServer):
    """What is the same in MySQL stands in methods of its own."""

    product = "MariaDB"
    db_type = "mysql"
    wrong_password = "Access denied"

    def install(self) -> None:
        installer = program("mariadb-install-db")
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
        self.write_init()

    def write_init(self) -> None:
        """Writes the statements with which it starts: they create the user."""
        literal = self.password.replace("\\", "\\\\").replace("'", "''")
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{literal}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{self.user}'@'%' WITH GRANT OPTION;\n"
        )

    def command(self) -> list[str]:
        daemon = program("mariadbd", _DAEMON_DIRS)
        assert daemon, missing_programs()
        return [daemon, "--no-defaults", "--innodb-log-file-size=96M", *_as_user(), *self.arguments()]

    def arguments(self) -> list[str]:
        """The options that both servers have."""
        return [
            f"--datadir={self.folder / 'data'}",
            f"--tmpdir={self.temporary}",
            f"--socket={self.folder / 'sock'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self.folder / 'init.sql'}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            f"--innodb-flush-log-at-trx-commit={1 if self.durable else 2}",
            "--innodb-buffer-pool-size=128M",
            "--performance-schema=OFF",
            "--skip-name-resolve",
            "--skip-log-bin",
            *self.options,
        ]

    def url(self, database: str | None) -> URL:
        return URL.create("mysql+pymysql", self.user, self.password, self.host, self.port, database)

    def connect(self, database: str | None = None) -> Any:
        return pymysql.connect(
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

    @property
    def errors(self) -> dict[str, Exception]:
        numbers = {"deadlock": 1213, "lock": 1205, "changed": 1020, "lost": 2013}
        return {name: pymysql.err.OperationalError(number, f"error {number}") for name, number in numbers.items()}

    def create_user(self, name: str, password: str, database: str, rights: str = "ALL PRIVILEGES") -> None:
        self.drop_user(name, database)
        self.execute(f"CREATE USER {name} IDENTIFIED BY '{password}'")
        self.execute(f"GRANT {rights} ON `{database}`.* TO {name}")

    def drop_user(self, name: str, database: str) -> None:  # noqa: ARG002
        self.execute(f"DROP USER IF EXISTS {name}")

    def set_read_only(self, *, is_on: bool) -> None:
        self.execute(f"SET GLOBAL read_only = {int(is_on)}")

    def shift_clock(self, seconds: int) -> list[str]:
        return [f"SET timestamp = UNIX_TIMESTAMP() + {seconds}"]

    def idle_connections(self, database: str) -> list[object]:
        where = f"db = '{database}' AND command = 'Sleep'"
        return [number for (number,) in self.execute(f"SELECT id FROM information_schema.processlist WHERE {where}")]

    def waits_for_locks(self) -> bool:
        """`innodb_trx` tells it too, but as of the read before if that is less than 0.1 s ago."""
        ((_, number),) = self.execute("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")
        return int(str(number)) > 0

    def end_connection(self, number: object) -> None:
        self.execute(f"KILL {number}")

    def lock_holders(self) -> set[object]:
        statement = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_rows_locked > 0"
        return {number for (number,) in self.execute(statement)}

    def answers(self) -> bool:
        with contextlib.suppress(pymysql.err.OperationalError):
            return self.execute("SELECT 1") == [(1,)]
        return False


def _as_user() -> list[str]:
    """As root the daemon wants to be told that root is meant."""
    return ["--user=root"] if os.geteuid() == 0 else []
