"""What the database registry needs to know of a database: its connections, its SQL, its errors and its probes.

Each database has a subclass of `DatabaseDialect` in a module of its own. The statements in `tables` are written for
SQLAlchemy or in standard SQL, and take from the dialect the parts that differ.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from sqlalchemy import DateTime, bindparam, tuple_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dbgpt_ctl.errors import RegistryError, RegistryUnavailable, RegistryUnusable, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import URL, Column, ColumnElement, Engine
    from sqlalchemy.types import TypeEngine

MAX_ERROR_CHARS = 200
RECYCLE_SECS = 600
"""A connection to a server is not kept longer: proxies and firewalls forget idle ones without a word."""
IDLE_TRANSACTION_SECS = 2
"""A server ends a transaction whose client has sent nothing for that time."""
ErrorCode: TypeAlias = int | str
"""A number, or an SQLSTATE."""


@dataclass(frozen=True, slots=True)
class DatabaseTimeouts:
    """The longest waits, in seconds: for a connection, for each answer or the sending of a statement, for a lock that
    another transaction holds, for a connection of the pool, and for all tries of one transaction together.

    A DB-GPT client gives up after 5 s. InnoDB ends a wait for a lock up to a second late. An answer is waited for
    longer than that, so that the wait ends with the database's own error, after which the transaction is tried again.
    """

    connect: float = 2.0
    io: float = 2.5
    lock: int = 1
    pool: float = 2.0
    retries: float = 4.0


class DatabaseDialect(ABC):
    """One kind of database. It keeps no state and no connection."""

    names: ClassVar[frozenset[str]]
    """The names that SQLAlchemy has for it, in URLs and of its own dialects."""
    current_time: ClassVar[str | None]
    """The SQL of its time in UTC, with microseconds; None: it has no clock but that of its controllers (rule 7)."""
    earlier_time: ClassVar[str]
    """The SQL of that time less a number of microseconds, `{}`."""
    commits_reads: ClassVar[bool]
    """Whether each statement on a connection for reads is a transaction of its own, which may write too."""

    retries_duplicates: ClassVar[bool]
    """Whether an INSERT of an instance that is there is a conflict, after which the transaction is tried again."""

    mark: ClassVar[str]
    """The placeholder of a parameter."""
    named_mark: ClassVar[str]
    """The placeholder of the parameter with the name `{}`."""
    null_safe_equal: ClassVar[str]
    """The operator that compares NULL as a value."""
    row_values: ClassVar[str] = ""
    """The keyword before a list of rows in `(a, b) IN (...)`."""
    reads_arrays: ClassVar[bool]
    """Whether a row comes faster as one JSON array than as columns."""
    carried_value: ClassVar[str | None] = None
    """The SQL of an expression, `{}`, whose value the answer to an UPDATE carries as the id of an inserted row, which
    saves the round trip of a SELECT; None: no answer carries one.
    """
    add_index: ClassVar[str] = "CREATE INDEX {index} ON {table} ({columns})"
    """The statement that adds an index to a table that may hold rows."""
    collation: ClassVar[str | None] = None
    """The collation of columns for texts, which compares them byte by byte (rule 1); None: they have it of their own,
    or by `table_options`.
    """
    time_type: ClassVar[TypeEngine[Any]] = DateTime()
    """The type of a column for times with microseconds."""
    table_options: ClassVar[Mapping[str, Any]] = {}
    """Keyword arguments of SQLAlchemy's `Table`, each with the name of the database as prefix."""

    # Errors, by what `error_code` returns.
    driver_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of the driver that can come without SQLAlchemy's wrapping."""
    conflicts: ClassVar[frozenset[ErrorCode]]
    """Another transaction was in the way: the same transaction may well succeed at once."""
    bad_calls: ClassVar[frozenset[ErrorCode]]
    """The value does not fit its column."""
    unusable: ClassVar[Mapping[ErrorCode, str]]
    """A person must act; each with the advice that ends the message."""
    damaged: ClassVar[frozenset[ErrorCode]] = frozenset()
    """A table or column is missing: what does not need it still works."""
    duplicates: ClassVar[frozenset[ErrorCode]] = frozenset()
    """The column or the index is there: another controller has added it."""
    cannot_serve: ClassVar[frozenset[ErrorCode]] = frozenset()
    """The host cannot serve now: another host is to be tried."""
    refused_by_all: ClassVar[frozenset[ErrorCode]] = frozenset()
    """Any other host of the database would refuse the connection too."""

    @abstractmethod
    def place(self, url: URL) -> str:
        """The database as errors and logs name it, without user and password."""

    def kind(self, engine: Engine) -> str:
        """The product that serves, as far as it is known."""
        return engine.dialect.name

    @abstractmethod
    def create_engine(
        self, url: URL, pool: dict[str, Any], timeouts: DatabaseTimeouts, ssl_ca: str | None, *, reads: bool
    ) -> Engine:
        """An engine that has not connected yet; with `reads` one for transactions that only read (see
        `commits_reads`).

        `pool` holds the arguments of SQLAlchemy's `create_engine` that all databases share. `ssl_ca` is a file with the
        certificates to trust; with it, connections are encrypted and the server's name is checked. Raises UsageError
        for a URL or file that cannot be used.
        """

    def exists(self, url: URL) -> bool:  # noqa: ARG002
        """Whether to connect would create nothing."""
        return True

    def create_storage(self, engine: Engine) -> None:  # noqa: B027 - most databases need none
        """Creates what the database needs before it can have tables. Raises RegistryUnusable."""

    def rows_in(self, columns: Sequence[str], rows: Collection[tuple[Any, ...]]) -> tuple[str, tuple[Any, ...]]:
        """The SQL of the condition that the columns hold the values of one of the rows, and the values for its marks.

        The database reads only those rows of an index that begins with the columns.
        """
        marks = ", ".join([f"({', '.join([self.mark] * len(columns))})"] * len(rows))
        return f"({', '.join(columns)}) IN ({self.row_values}{marks})", tuple(chain.from_iterable(rows))

    def are_in(self, columns: Sequence[Column[Any]], rows: Collection[tuple[Any, ...]]) -> ColumnElement[bool]:
        """The same condition as an expression."""
        return tuple_(*columns).in_(bindparam("keys", list(rows), expanding=True))

    @abstractmethod
    def moved_back(self, column: ColumnElement[datetime], step: timedelta) -> ColumnElement[Any]:
        """The time in the column, less `step`."""

    @abstractmethod
    def error_code(self, cause: BaseException) -> ErrorCode:
        """What the database calls the driver's error; 0 for one that it did not report."""

    def is_conflict(self, error: Exception) -> bool:
        """Whether another transaction was in the way, so that the same transaction may well succeed at once."""
        return self.error_code(cause_of(error)) in self.conflicts

    def meaning_of(
        self, error: Exception, place: str, failures: Mapping[str, BaseException] | None = None
    ) -> RegistryError | None:
        """The error as this package raises it, in one line without secrets; None for an error of the call itself.

        `failures` are the errors of several hosts by their places; without them the error is that of `place`.
        """
        if isinstance(error, PoolTimeout):
            return RegistryUnavailable(f"database {place}: all connections are busy")
        if not isinstance(error, (DBAPIError, *self.driver_errors)):
            return None
        cause = cause_of(error)
        code = self.error_code(cause)
        if code in self.bad_calls:
            return None
        message = self._described(failures or {place: cause})
        return RegistryUnusable(message) if code in self.unusable else RegistryUnavailable(message)

    def _described(self, failures: Mapping[str, BaseException]) -> str:
        """What each place said, with the advice for it; advice for several places stands after the last of them."""
        advice = {at: self.unusable.get(self.error_code(failed)) for at, failed in failures.items()}
        last = {text: at for at, text in advice.items()}
        ends = {at: f"; {text}" if text and last[text] == at else "" for at, text in advice.items()}
        return "; ".join(f"database {at}: {self.text_of(failed)}{ends[at]}" for at, failed in failures.items())

    def text_of(self, cause: BaseException) -> str:
        """What the driver's error says, in one line of at most MAX_ERROR_CHARS that is safe on a terminal: the text may
        be of a server that is not the database.
        """
        text = self.said_by(cause)
        line = " ".join(text[:MAX_ERROR_CHARS].split())
        shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        return f"{shown[:MAX_ERROR_CHARS]}{'...' if len(text) > MAX_ERROR_CHARS else ''}" or type(cause).__name__

    def said_by(self, cause: BaseException) -> str:
        """The message in the driver's error, without the statement."""
        return str(cause)

    def require_member(self, connection: Any) -> None:  # noqa: B027 - not every database has hosts
        """Closes a new connection of the driver, and raises the driver's error, when its host cannot serve now."""


def require_certificates(file: str | None) -> None:
    """Raises UsageError for a file of certificates to trust that cannot be used."""
    if file:
        try:
            ssl.create_default_context(cafile=file)
        except OSError as error:  # an SSLError is one
            raise UsageError(f"registry_db_ssl_ca {file} cannot be used: {error.strerror or error}") from None


def cause_of(error: Exception) -> BaseException:
    """The error of the driver in one of SQLAlchemy."""
    return error.orig or error if isinstance(error, DBAPIError) else error
