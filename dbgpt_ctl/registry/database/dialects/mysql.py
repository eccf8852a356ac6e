"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, func, text
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DisconnectionError

from dbgpt_ctl.databases import DatabaseHost
from dbgpt_ctl.registry.database.dialects.base import (
    IDLE_TRANSACTION_SECS,
    RECYCLE_SECS,
    DatabaseDialect,
    require_certificates,
)
from dbgpt_ctl.registry.database.dialects.mysql_connection import DRIVER

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import URL, ColumnElement, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

    from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts

_USED_SECS = 1.5
"""Where there is only a limit for all idle connections, one that was idle for that time is replaced by a new one."""
_USED_AT = "ctl_used_at"
"""When a connection with that limit was used last."""
_NOT_READY = 1047
_READ_ONLY = 1290
_LOCKED = (3118, 4151)
"""The account is locked: in MySQL and in MariaDB."""
_EXPIRED = (1820, 1862)
"""The password is expired: a login that may only change it, and a login that is refused."""
_NEEDS_TLS = 3159
"""require_secure_transport. PyMySQL 1.2 uses TLS where the server offers it; before that it must be told to."""
_OPTIONS = {"engine": "InnoDB", "charset": "utf8mb4", "collate": "utf8mb4_bin", "row_format": "DYNAMIC"}


class MySQL(DatabaseDialect):
    """A server or several that share one database, as in a Galera cluster.

    Numbers of errors: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
    """

    names = frozenset({"mysql", "mariadb"})
    current_time = "UTC_TIMESTAMP(6)"
    earlier_time = "UTC_TIMESTAMP(6) - INTERVAL {} MICROSECOND"
    commits_reads = True
    retries_duplicates = True
    mark = "%s"
    named_mark = "%({})s"
    null_safe_equal = "<=>"
    reads_arrays = True  # PyMySQL, which is all Python, takes three times as long for columns of their own
    carried_value = "LAST_INSERT_ID({})"
    add_index = "ALTER TABLE {table} ADD INDEX {index} ({columns})"  # needs no further grant
    time_type = mysql.DATETIME(fsp=6)
    table_options = {f"{name}_{key}": value for name in names for key, value in _OPTIONS.items()}  # noqa: RUF012

    # Record changed, duplicate key (another controller was first), lock wait timeout, deadlock; another controller
    # upgrades the table (two).
    conflicts = frozenset({1020, 1062, 1205, 1213, 1412, 1684})
    bad_calls = frozenset({1048, 1264, 1265, 1366, 1406})
    unusable = {  # noqa: RUF012
        **dict.fromkeys((1044, 1045, 1698), "check user, password and grants"),
        **dict.fromkeys((1142, 1143), "grant it, or let a user who may create tables start a controller once"),
        **dict.fromkeys((1054, 1146), "these are not the tables of this release"),
        1049: "create it (CREATE DATABASE) or name another",
        **dict.fromkeys(_LOCKED, "unlock it (ALTER USER ... ACCOUNT UNLOCK) or set registry_db_user to another user"),
        **dict.fromkeys(
            _EXPIRED, "give the user a new password (ALTER USER ... IDENTIFIED BY), and set registry_db_password to it"
        ),
        2061: "check the user name, because MySQL may ask an unknown user for any login; if the user is right and this "
        "is your server, set registry_db_ssl_ca to the certificate of its authority, or give the user the login "
        "caching_sha2_password",
        _NEEDS_TLS: "set registry_db_ssl_ca to the certificate of its authority: the server takes only encrypted "
        "connections",
    }
    damaged = frozenset({1054, 1146})
    duplicates = frozenset({1060, 1061})
    # Galera: not ready (no quorum, or joining); shutting down; read-only (two); connection killed.
    cannot_serve = frozenset({_NOT_READY, 1053, _READ_ONLY, 1836, 1927})
    # Wrong user, password or database; locked, expired or without TLS.
    refused_by_all = frozenset({1044, 1045, 1049, 1698, _NEEDS_TLS, *_LOCKED, *_EXPIRED})

    def place(self, url: URL) -> str:
        """`10.0.0.7:3306/dbgpt`."""
        return f"{DatabaseHost(url.host or 'localhost', url.port or 3306)}/{url.database or ''}"

    def kind(self, engine: Engine) -> str:
        """MySQL until the server said that it is MariaDB."""
        return "mariadb" if getattr(engine.dialect, "is_mariadb", False) else "mysql"

    def create_engine(
        self, url: URL, pool: dict[str, Any], timeouts: DatabaseTimeouts, ssl_ca: str | None, *, reads: bool
    ) -> Engine:
        """READ COMMITTED takes no gap locks, and each statement sees all that was committed before it began. Reads are
        in autocommit: that saves a round trip for each.
        """
        require_certificates(ssl_ca)
        lock = timeouts.lock
        arguments = {
            "charset": "utf8mb4",
            "connect_timeout": timeouts.connect,
            "read_timeout": timeouts.io,
            "write_timeout": timeouts.io,
            "init_command": f"SET SESSION innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}",
            **({"ssl_ca": ssl_ca, "ssl_verify_cert": True, "ssl_verify_identity": True} if ssl_ca else {}),
        }
        # The connection that was used last is used next, so that those in use do not become idle.
        options = pool | {"pool_recycle": RECYCLE_SECS, "pool_use_lifo": True, "connect_args": arguments}
        isolation = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
        engine = create_engine(
            url.set(drivername="mysql+pymysql"),
            module=DRIVER,
            **(isolation if reads else {"isolation_level": "READ COMMITTED"}),
            **options,
        )
        event.listen(engine, "connect", _see_writes_of_other_nodes)
        if not reads:
            event.listen(engine, "checkin", _note_use)
            event.listen(engine, "checkout", _replace_idle)
        event.listen(engine, "connect", _set_read_committed if reads else _limit_idle_transactions)
        return engine

    def moved_back(self, column: ColumnElement[datetime], step: timedelta) -> ColumnElement[Any]:
        return func.timestampadd(text("MICROSECOND"), -(step // timedelta(microseconds=1)), column)

    def error_code(self, cause: BaseException) -> int:
        code = cause.args[0] if cause.args else 0
        return code if isinstance(code, int) else 0

    def said_by(self, cause: BaseException) -> str:
        """PyMySQL's errors have a number and a text."""
        return str(cause.args[1] if len(cause.args) > 1 else cause)

    def require_member(self, connection: Any) -> None:
        """A replica is read-only, and a node of a Galera cluster that is still joining, or has lost the others, accepts
        connections and serves nothing.
        """
        with connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('read_only', 'wsrep_on')")
            variables = dict(cursor.fetchall())
            if variables.get("wsrep_on") == "ON":
                cursor.execute("SHOW STATUS LIKE 'wsrep_ready'")
                is_ready = cursor.fetchone()[1] == "ON"
            else:
                is_ready = True
        if is_ready and variables["read_only"] == "OFF":
            return
        connection.close()
        if is_ready:
            raise connection.OperationalError(_READ_ONLY, "the server is read-only")
        raise connection.OperationalError(_NOT_READY, "the node is not part of the cluster")


def _see_writes_of_other_nodes(connection: Any, _: object) -> None:
    """On a Galera cluster a read waits for what was committed through other nodes; elsewhere nothing is set."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION VARIABLES LIKE 'wsrep_on'")
        if (cursor.fetchone() or ("", ""))[1] == "ON":
            cursor.execute("SET SESSION wsrep_sync_wait = 1")


def _set_read_committed(connection: Any, _: object) -> None:
    """In autocommit SQLAlchemy leaves the isolation as the server has it."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


def _note_use(_: object, record: ConnectionPoolEntry) -> None:
    if _USED_AT in record.info:
        record.info[_USED_AT] = monotonic()


def _replace_idle(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
    if monotonic() - record.info.get(_USED_AT, inf) > _USED_SECS:
        raise DisconnectionError("the database is about to end this idle connection")


def _limit_idle_transactions(connection: Any, record: ConnectionPoolEntry) -> None:
    """A controller that freezes in the middle of a transaction, or whose host is gone, keeps its locks no longer than
    the other controllers can wait for them.
    """
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION VARIABLES LIKE 'idle_transaction_timeout'")
        if cursor.fetchone() is not None:
            cursor.execute(f"SET SESSION idle_transaction_timeout = {IDLE_TRANSACTION_SECS}")
        else:  # MySQL has one limit for connections in a transaction and for all others
            cursor.execute(f"SET SESSION wait_timeout = {IDLE_TRANSACTION_SECS}")
            record.info[_USED_AT] = monotonic()


DIALECT = MySQL()
