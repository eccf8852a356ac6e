"""PostgreSQL, through psycopg 3, which is an extra of this package."""

from __future__ import annotations

import re
from math import ceil
from typing import TYPE_CHECKING, Any

from sqlalchemy import DateTime, Interval, create_engine, event, func, literal, select, tuple_, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY

from dbgpt_ctl.databases import DATABASE_TYPES, DatabaseHost
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.registry.database.dialects.base import (
    IDLE_TRANSACTION_SECS,
    RECYCLE_SECS,
    DatabaseDialect,
    require_certificates,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import URL, Column, ColumnElement, Engine

    from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts, ErrorCode

_NEEDED_LIBPQ = 16_00_00
"""The first libpq that can be told which logins to refuse. Those of `psycopg[binary]` are newer."""
_WEAK_LOGIN = "weak login"
_NOT_ENCRYPTED = "not encrypted"
_REFUSALS = {
    "28P01": r"password authentication failed",
    _NOT_ENCRYPTED: r"no pg_hba\.conf entry for .*no encryption|server does not support SSL",
    "28000": r"no pg_hba\.conf entry|role \S+ (?:does not exist|is not permitted)|authentication failed",
    "3D000": r"database \S+ does not exist",
    "42501": r"permission denied for database",
    "53300": r"too many clients|remaining connection slots",
    "57P03": r"the database system is (?:starting up|shutting down|not (?:yet )?accepting|in recovery)",
    "25006": r"session is read-only|server is in hot standby mode",
    _WEAK_LOGIN: r"authentication method requirement .* failed",
}
"""How a connection is refused, in the words of server and libpq, by the SQLSTATE, which libpq does not tell. A server
that speaks another language is not understood, which costs the advice.
"""
_ARRAYS = {str: "text[]", int: "bigint[]"}
_PREFIX = re.compile(
    r'(connection failed: )?connection to server at "[^"]*"( \([^)]*\))?, port \d+ failed: (FATAL: +)?'
)

_HINT = re.compile(r"\n\t.*")
"""Libpq asks here whether the server is running."""


class PostgreSQL(DatabaseDialect):
    """A server, or several of which one takes writes, as a primary and its standbys.

    Codes of errors: https://www.postgresql.org/docs/17/errcodes-appendix.html
    """

    names = frozenset({"postgresql"})
    current_time = "(statement_timestamp() AT TIME ZONE 'UTC')"
    earlier_time = current_time + " - INTERVAL '{} microseconds'"
    commits_reads = True
    retries_duplicates = True
    mark = "%s"
    named_mark = "%({})s"
    null_safe_equal = "IS NOT DISTINCT FROM"
    reads_arrays = False
    collation = "C"

    # Serialization, deadlock, wait for a lock; duplicate key (another controller was first); another controller
    # upgrades the tables (two).
    conflicts = frozenset({"40001", "40P01", "55P03", "23505", "42701", "42P07"})
    bad_calls = frozenset({"22001", "22003", "22021", "22P05", "23502"})
    unusable = {  # noqa: RUF012
        **dict.fromkeys(("28000", "28P01"), "check user, password and pg_hba.conf"),
        "42501": "grant it, or let a user who may create tables start a controller once",
        **dict.fromkeys(("42703", "42P01"), "these are not the tables of this release"),
        "3D000": "create it (CREATE DATABASE) or name another",
        "3F000": "let the user's search_path name a schema in which it may create tables",
        _WEAK_LOGIN: "set registry_db_ssl_ca to the certificate of its authority, or use scram-sha-256 in pg_hba.conf",
        _NOT_ENCRYPTED: "set registry_db_ssl_ca to the certificate of its authority: the server takes only encrypted "
        "connections",
    }
    damaged = frozenset({"42703", "42P01"})
    # Read-only; shutting down (two), starting up.
    cannot_serve = frozenset({"25006", "57P01", "57P02", "57P03"})
    refused_by_all = frozenset({"28000", "28P01", "3D000", _NOT_ENCRYPTED, _WEAK_LOGIN})

    def place(self, url: URL) -> str:
        """`10.0.0.7:5432/dbgpt`."""
        port = url.port or DATABASE_TYPES["postgresql"].default_port or 0
        return f"{DatabaseHost(url.host or 'localhost', port)}/{url.database or ''}"

    def create_engine(
        self, url: URL, pool: dict[str, Any], timeouts: DatabaseTimeouts, ssl_ca: str | None, *, reads: bool
    ) -> Engine:
        """Each statement sees all that was committed before it began. Reads are in autocommit: that saves two round
        trips for each.
        """
        require_certificates(ssl_ca)
        arguments = {
            "connect_timeout": ceil(timeouts.connect),
            "silence_secs": timeouts.io,
            "client_encoding": "utf8",
            "application_name": "dbgpt_ctl",
            "gssencmode": "disable",
            "target_session_attrs": "read-write",
            **({"sslmode": "verify-full", "sslrootcert": ssl_ca} if ssl_ca else _UNVERIFIED),
        }
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            module=_driver(),
            use_native_hstore=False,
            isolation_level="AUTOCOMMIT" if reads else "READ COMMITTED",
            skip_autocommit_rollback=reads,
            **pool | {"pool_recycle": RECYCLE_SECS, "connect_args": arguments},
        )

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, _: object) -> None:
            connection.execute(_SESSION.format(lock=timeouts.lock))
            connection.commit()

        return engine

    def rows_in(self, columns: Sequence[str], rows: Collection[tuple[Any, ...]]) -> tuple[str, tuple[Any, ...]]:
        """From an array of each column's values: to plan a list of 500 rows takes 40 ms and more."""
        arrays = ", ".join(f"unnest(%s::{_ARRAYS[type(value)]})" for value in next(iter(rows)))
        return f"({', '.join(columns)}) IN (SELECT {arrays})", tuple(map(list, zip(*rows, strict=True)))

    def are_in(self, columns: Sequence[Column[Any]], rows: Collection[tuple[Any, ...]]) -> ColumnElement[bool]:
        pairs = zip(columns, zip(*rows, strict=True), strict=True)
        arrays = (func.unnest(literal(list(values), ARRAY(column.type))) for column, values in pairs)
        return tuple_(*columns).in_(select(*arrays))

    def moved_back(self, column: ColumnElement[datetime], step: timedelta) -> ColumnElement[Any]:
        return type_coerce(column, DateTime()) - literal(step, Interval())

    def error_code(self, cause: BaseException) -> ErrorCode:
        if code := getattr(cause, "sqlstate", None):
            return str(code)
        text = str(cause)
        return next((code for code, words in _REFUSALS.items() if re.search(words, text)), 0)

    def said_by(self, cause: BaseException) -> str:
        """Without the statement in which the error is; of a connection without its address, and without guesses."""
        said = getattr(getattr(cause, "diag", None), "message_primary", None)
        return str(said) if said else _HINT.sub("", _PREFIX.sub("", str(cause)))


_UNVERIFIED = {"sslmode": "prefer", "require_auth": "!password"}
"""Encrypted if the server can do it. A server that asks for the password itself is refused."""
_SESSION = (
    # Without statistics, as after the first registers, a scan of the table looks cheaper than its index.
    "SELECT set_config('enable_seqscan', 'off', false), set_config('jit', 'off', false), "
    "set_config('lock_timeout', '{lock}s', false), "
    f"set_config('idle_in_transaction_session_timeout', '{IDLE_TRANSACTION_SECS}s', false), "
    "set_config('default_transaction_isolation', 'read committed', false), "
    # An answer is durable: a server that is set to lose the last commits does not lose these.
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'local', false) END"
)


def _driver() -> Any:
    try:
        from psycopg import pq

        from dbgpt_ctl.registry.database.dialects.postgresql_connection import DRIVER
    except ImportError as error:
        raise UsageError(
            "a registry in PostgreSQL needs psycopg, which is not installed: pip install 'dbgpt-ctl[postgresql]'"
        ) from error
    if pq.version() < _NEEDED_LIBPQ:
        raise UsageError(
            f"a registry in PostgreSQL needs libpq 16 or newer, and this is {pq.version() // 10000}: "
            "pip install 'psycopg[binary]'"
        )
    return DRIVER


DIALECT = PostgreSQL()
