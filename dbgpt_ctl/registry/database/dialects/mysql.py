"""Connections to a database: every wait on them is bounded, and every transaction begins as its kind must."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from dbgpt_ctl.errors import RegistryUnusable, UsageError
from dbgpt_ctl.registry.database.host_failover import try_hosts

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

    from dbgpt_ctl.database_hosts import DatabaseHosts

__all__ = ["DatabaseTimeouts", "connect_to", "create_file"]

_RECYCLE_SECS = 600
"""A connection is not kept longer: proxies and firewalls forget idle ones without a word."""

_IDLE_TRANSACTION_SECS = 2
"""The database ends a transaction whose client says nothing for so long."""
_IDLE_SECS = 20
"""The same where only a limit for all idle connections can be had."""


@dataclass(frozen=True, slots=True)
class DatabaseTimeouts:
    """The longest waits, in seconds: for a connection, for each answer or the sending of a statement, for another's
    lock, for the pool.

    `patience` bounds the tries of one transaction together. A DB-GPT client gives up after 5 s.
    """

    connect: float = 2.0
    io: float = 2.0
    lock: int = 2
    pool: float = 2.0
    patience: float = 4.0


def connect_to(
    url: URL,
    *,
    pool_size: int,
    max_overflow: int,
    timeouts: DatabaseTimeouts,
    hosts: DatabaseHosts | None = None,
    ssl_ca: str | None = None,
    reads: bool = False,
) -> Engine:
    """An engine that has not connected yet; with `reads` one whose statements, on MySQL, are transactions of their own.
    Raises UsageError for a database this package cannot use.

    `hosts`: where a MySQL database is, instead of the host and port in `url`. `ssl_ca`: a file with the certificates to
    trust; with it, connections are encrypted and the server's name is checked.
    """
    kind = url.get_backend_name()
    if kind not in {"sqlite", "mysql", "mariadb"}:
        raise UsageError(f"database {kind!r} is not supported: use mysql or sqlite")
    # Nothing is left open when a connection goes back: transactions are ended by their blocks. It saves a round trip
    # per batch.
    pool: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": max_overflow,
        "pool_timeout": timeouts.pool,
        "pool_reset_on_return": None,
        "hide_parameters": True,
    }
    if kind == "sqlite":
        return _sqlite(url, timeouts, pool, reads=reads)
    return _mysql(url, timeouts, pool, hosts, ssl_ca, reads=reads)


def _mysql(
    url: URL,
    timeouts: DatabaseTimeouts,
    pool: dict[str, Any],
    hosts: DatabaseHosts | None,
    ssl_ca: str | None,
    *,
    reads: bool,
) -> Engine:
    if ssl_ca:
        _require_certificates(ssl_ca)
    lock = timeouts.lock
    options: dict[str, Any] = {
        "pool_recycle": _RECYCLE_SECS,
        "connect_args": {
            "charset": "utf8mb4",
            "connect_timeout": timeouts.connect,
            "read_timeout": timeouts.io,
            "write_timeout": timeouts.io,
            "init_command": f"SET SESSION innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}",
            **({"ssl_ca": ssl_ca, "ssl_verify_cert": True, "ssl_verify_identity": True} if ssl_ca else {}),
        },
        **pool,
    }
    address = url.set(drivername="mysql+pymysql")
    # Autocommit spares a round trip for each. READ COMMITTED: no gap locks, and each statement sees all that was
    # committed before it began.
    isolation = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    engine = create_engine(address, **(isolation if reads else {"isolation_level": "READ COMMITTED"}), **options)
    if hosts is not None:
        try_hosts(engine, hosts)
    event.listen(engine, "connect", _read_own_cluster)
    event.listen(engine, "connect", _lock_no_gaps if reads else _let_locks_go)
    return engine


def _require_certificates(ssl_ca: str) -> None:
    try:
        ssl.create_default_context(cafile=ssl_ca)
    except OSError as error:  # an SSLError is one
        raise UsageError(f"registry_db_ssl_ca {ssl_ca} cannot be used: {error.strerror or error}") from None


def _read_own_cluster(connection: Any, _: object) -> None:
    """On a Galera cluster a read waits for what was committed through other nodes; elsewhere nothing is set."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION VARIABLES LIKE 'wsrep_on'")
        if (cursor.fetchone() or ("", ""))[1] == "ON":
            cursor.execute("SET SESSION wsrep_sync_wait = 1")


def _lock_no_gaps(connection: Any, _: object) -> None:
    """READ COMMITTED: in autocommit SQLAlchemy leaves the isolation as the server has it."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def _let_locks_go(connection: Any, _: object) -> None:
    """A controller that is frozen, or whose host is gone, in the middle of a transaction holds its locks no longer than
    the others can wait for them.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION VARIABLES LIKE 'idle_transaction_timeout'")
        if cursor.fetchone() is not None:
            cursor.execute(f"SET SESSION idle_transaction_timeout = {_IDLE_TRANSACTION_SECS}")
        else:  # MySQL: the tick uses each connection again before that
            cursor.execute(f"SET SESSION wait_timeout = {_IDLE_SECS}")


def _sqlite(url: URL, timeouts: DatabaseTimeouts, pool: dict[str, Any], *, reads: bool) -> Engine:
    if url.database in {None, "", ":memory:"}:
        raise UsageError(
            "a SQLite registry needs the path of a file; to keep instances in memory use the embedded registry"
        )
    engine = create_engine(url, connect_args={"timeout": timeouts.lock}, **pool)

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        # The driver's own notion of transactions is switched off, see on_begin. FULL: a commit outlives a power cut
        # too.
        try:
            connection.isolation_level = None
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()  # the pool does not know it yet
            raise

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A writer takes its lock first: one that has to upgrade from a read fails at once when another was faster.
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def create_file(engine: Engine) -> None:
    """SQLite's folders and file, in WAL mode, where readers and the writer do not wait for each other."""
    path = Path(str(engine.url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegistryUnusable(f"database {path}: {error.strerror}; name a file that can be created") from error
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()
