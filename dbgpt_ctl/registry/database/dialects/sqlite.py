"""SQLite, through Python's own driver: one file that the controllers of one host share."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, func

from dbgpt_ctl.errors import RegistryUnusable, UsageError
from dbgpt_ctl.registry.database.dialects.base import DatabaseDialect

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import URL, ColumnElement, Connection, Engine

    from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts


class SQLite(DatabaseDialect):
    """A file in WAL mode, where readers and the writer do not wait for each other. Times are texts in UTC, always with
    six digits of a second, so that they compare as times.
    """

    names = frozenset({"sqlite"})
    current_time = None
    commits_reads = False
    retries_duplicates = False
    mark = "?"
    named_mark = ":{}"
    null_safe_equal = "IS"
    row_values = "VALUES "
    reads_arrays = False

    driver_errors = (sqlite3.Error,)
    conflicts = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
    bad_calls = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
    damaged = frozenset({sqlite3.SQLITE_ERROR})
    unusable = {  # noqa: RUF012
        sqlite3.SQLITE_PERM: "make it writable",
        sqlite3.SQLITE_READONLY: "make the file and its folder writable",
        sqlite3.SQLITE_CANTOPEN: "name a file that can be created and written",
        sqlite3.SQLITE_CORRUPT: "put a sound copy in its place, or name another file",
        sqlite3.SQLITE_NOTADB: "name another file",
        sqlite3.SQLITE_ERROR: "name another file, or move this one away",
    }

    def place(self, url: URL) -> str:
        """The path of the file."""
        return str(url.database)

    def exists(self, url: URL) -> bool:
        return Path(str(url.database)).exists()

    def create_engine(
        self,
        url: URL,
        pool: dict[str, Any],
        timeouts: DatabaseTimeouts,
        ssl_ca: str | None,  # noqa: ARG002
        *,
        reads: bool,
    ) -> Engine:
        if url.database in {None, "", ":memory:"}:
            raise UsageError(
                "a SQLite registry needs the path of a file; to keep instances in memory use the embedded registry"
            )
        # Without an isolation level the driver begins no transactions of its own, see on_begin.
        engine = create_engine(url, connect_args={"timeout": timeouts.lock, "isolation_level": None}, **pool)

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, _: object) -> None:
            try:
                connection.execute("PRAGMA synchronous = FULL")  # a commit outlives a power cut too
            except BaseException:
                connection.close()  # the pool does not know it yet
                raise

        @event.listens_for(engine, "begin")
        def on_begin(connection: Connection) -> None:
            # A writer takes its lock first: one that upgrades a read lock fails at once when another was faster.
            connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

        return engine

    def create_storage(self, engine: Engine) -> None:
        """Creates the folders and the file. Only its owner may read a new file, and those that SQLite makes beside it
        with the same mode: it names every instance.
        """
        path = Path(str(engine.url.database))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise RegistryUnusable(f"database {path}: {error.strerror}; name a file that can be created") from error
        if not path.is_file():
            raise RegistryUnusable(f"database {path}: it is not a regular file; name another file")
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()

    def moved_back(self, column: ColumnElement[datetime], step: timedelta) -> ColumnElement[Any]:
        modifier = f"-{step.total_seconds():.3f} seconds"
        return func.strftime("%Y-%m-%d %H:%M:%f", column, modifier).concat("000")

    def error_code(self, cause: BaseException) -> int:
        """Without the upper bits, which only refine the number."""
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF


DIALECT = SQLite()
