"""The tables of the database registry, their version, and how a database comes to hold them.

`ctl_instance` holds one row per instance: its primary key is the identity itself (rule 6), its columns are the facts of
`ModelInstance`. `ctl_event` holds the last changes of state, `ctl_stream` one row: the number of the newest event, and
since when all events are there.
`ctl_pulse` holds one row: the last tick of any controller, and the last gap between two ticks (rule 8).
`ctl_outage` holds the gaps of the last weeks.
`ctl_controller` holds one row per controller that uses the database. `ctl_schema` holds one row: the version of these
tables, and the lowest version whose release can still use them. Times are UTC with microseconds, names compare exactly
(rule 1).

Controllers of two releases may share a database while they are replaced one by one, or when a new release is taken
back. So a new version only adds: tables, and columns that may be NULL or have a default in the database. A statement
names its columns, because a newer release may have added others and an upgraded table has them in another order.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Enum,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.schema import CreateColumn, CreateTable

from dbgpt_ctl.domain.fields import MAX_TEXT_CHARS
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import RegistryUnusable
from dbgpt_ctl.registry.database.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Dialect
    from sqlalchemy.types import TypeEngine

SCHEMA_VERSION = 2
READABLE_BY = 1
"""The lowest version whose release can use tables of SCHEMA_VERSION. It rises only with a change that does more than
add.
"""

_MAX_WORD_CHARS = 16
_MAX_NAME_CHARS = 64
_MAX_NOTE_CHARS = 255


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC, stored without its offset."""

    impl = DateTime
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        return datetime

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DIALECTS[dialect.name].time_type)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


def _text(chars: int) -> String:
    """The type of a column for texts, which every database compares byte by byte."""
    text = String(chars)
    for name, dialect in DIALECTS.items():
        if dialect.collation is not None:
            text = text.with_variant(String(chars, dialect.collation), name)
    return text


_STATE = Enum(
    InstanceState, native_enum=False, length=_MAX_WORD_CHARS, values_callable=lambda states: [*map(str, states)]
)
_OPTIONS = {name: value for dialect in DIALECTS.values() for name, value in dialect.table_options.items()}
_METADATA = MetaData()

INSTANCES = Table(
    "ctl_instance",
    _METADATA,
    Column("model_name", _text(MAX_TEXT_CHARS), primary_key=True),
    Column("host", _text(MAX_TEXT_CHARS), primary_key=True),
    Column("port", Integer, primary_key=True, autoincrement=False),
    Column("weight", Double, nullable=False),
    Column("check_healthy", Boolean, nullable=False),
    Column("prompt_template", _text(MAX_TEXT_CHARS)),
    Column("registered_at", UtcTime, nullable=False),
    Column("last_heartbeat", UtcTime, nullable=False),
    Column("deregistered_at", UtcTime),
    Column("refused_at", UtcTime),
    Column("drained", Boolean, nullable=False),
    Column("drain_since", UtcTime),
    Column("drain_by", _text(_MAX_NOTE_CHARS)),
    Column("drain_reason", _text(_MAX_NOTE_CHARS)),
    Column("drain_until", UtcTime),
    Column("announced_state", _STATE, nullable=False),
    Column("flaps", Integer, nullable=False),
    Column("removed", Boolean, nullable=False),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

VERSIONS = Table(
    "ctl_schema",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("readable_by", Integer, nullable=False),
    **_OPTIONS,
)

PULSE = Table(
    "ctl_pulse",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("ticked_at", UtcTime, nullable=False),
    Column("gone_at", UtcTime),
    Column("back_at", UtcTime),
    Column("swept_at", UtcTime),
    **_OPTIONS,
)

OUTAGES = Table(
    "ctl_outage",
    _METADATA,
    Column("gone_at", UtcTime, primary_key=True),
    Column("back_at", UtcTime, nullable=False),
    **_OPTIONS,
)

EVENTS = Table(
    "ctl_event",
    _METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("model_name", _text(MAX_TEXT_CHARS), nullable=False),
    Column("host", _text(MAX_TEXT_CHARS), nullable=False),
    Column("port", Integer, nullable=False),
    Column("old_state", _text(_MAX_WORD_CHARS), nullable=False),
    Column("new_state", _text(_MAX_WORD_CHARS), nullable=False),
    Column("verb", _text(_MAX_WORD_CHARS), nullable=False),
    Column("actor", _text(_MAX_NAME_CHARS), nullable=False),
    Column("actor_name", _text(_MAX_NAME_CHARS)),
    Column("address", _text(_MAX_NOTE_CHARS)),
    Column("reason", _text(_MAX_NOTE_CHARS)),
    Column("drained", Boolean, nullable=False),
    *(Index(f"ctl_event_{name}", name, "id") for name in ("at", "model_name", "host", "verb", "actor", "actor_name")),
    **_OPTIONS,
)

STREAM = Table(
    "ctl_stream",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("stream", _text(_MAX_WORD_CHARS), nullable=False),
    Column("last_event", BigInteger, nullable=False),
    Column("lost_to", BigInteger),
    Column("complete_since", UtcTime),
    Column("operator_complete_since", UtcTime),
    **_OPTIONS,
)


CONTROLLERS = Table(
    "ctl_controller",
    _METADATA,
    Column("id", _text(_MAX_NAME_CHARS), primary_key=True),
    Column("version", _text(_MAX_NAME_CHARS), nullable=False),
    Column("address", _text(_MAX_NOTE_CHARS), nullable=False),
    Column("heartbeat_timeout_secs", Double, nullable=False),
    Column("heartbeat_interval_secs", Double, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    **_OPTIONS,
)


TABLE_NAMES = tuple(sorted(_METADATA.tables))


class SchemaVersion(NamedTuple):
    """What `ctl_schema` says of the tables of a database."""

    version: int
    readable_by: int

    @property
    def is_usable(self) -> bool:
        """Whether this release can use the tables. It adds what is missing in older ones (see `prepare`)."""
        return self.is_readable and self.readable_by <= SCHEMA_VERSION

    @property
    def is_readable(self) -> bool:
        """Whether these are numbers: another program may have written that row."""
        return isinstance(self.version, int) and isinstance(self.readable_by, int)


ABSENT = SchemaVersion(0, 0)
"""The database does not hold the tables."""


def prepare(connection: Connection, place: str) -> None:
    """Creates absent tables, and adds what older ones lack. Several controllers may do so at the same time.

    A database that is up to date, or newer, is only read: its user needs no right to create tables. `place` names the
    database in errors. Raises RegistryUnusable for tables that this release cannot use.
    """
    if require_usable(connection, place).version < SCHEMA_VERSION:
        _add_what_is_missing(connection)
        _store_version(connection)
    else:
        require_columns(connection, place)


def schema_version(connection: Connection) -> SchemaVersion:
    """The version of the tables that the database holds, or ABSENT."""
    if not inspect(connection).has_table(VERSIONS.name):
        return ABSENT
    row = connection.execute(select(VERSIONS.c.version, VERSIONS.c.readable_by).where(VERSIONS.c.id == 1)).one_or_none()
    return ABSENT if row is None else SchemaVersion._make(row)


def require_usable(connection: Connection, place: str) -> SchemaVersion:
    """As `schema_version`. Raises RegistryUnusable for tables that this release cannot use."""
    held = schema_version(connection)
    if not held.is_readable:
        raise RegistryUnusable(
            f"{place}: the row of {VERSIONS.name} cannot be read (version {held.version!a}, readable_by "
            f"{held.readable_by!a}): set both to {SCHEMA_VERSION} if ctl of this release made these tables, or give "
            "this controller another database"
        )
    if not held.is_usable:
        raise RegistryUnusable(
            f"{place} holds schema version {held.version}, which only releases with schema version {held.readable_by} "
            f"or newer can use, and this release has {SCHEMA_VERSION}: upgrade this controller, or give it another "
            "database"
        )
    return held


def require_columns(connection: Connection, place: str) -> None:
    """Raises RegistryUnusable when a table or column of this release is missing or has another type, as after a change
    by hand. Tables and columns of newer releases may be there, too.
    """
    faults = column_faults(connection)
    if faults:
        more = f" ({len(faults) - 1} more: `ctl db check` lists them)" if len(faults) > 1 else ""
        raise RegistryUnusable(f"database {place}: {faults[0]}{more}")


def column_faults(connection: Connection) -> list[str]:
    """What is missing in the tables or has another type, one line for each, with what to do."""
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    return [
        fault
        for table in _METADATA.sorted_tables
        for fault in (
            _faults_of(table, inspector.get_columns(table.name), connection)
            if table.name in present
            else [f"there is no table {table.name}: restore it from a backup, or name an empty database"]
        )
    ]


def _faults_of(table: Table, found: Sequence[Any], connection: Connection) -> Iterator[str]:
    types = {column["name"]: column["type"] for column in found}
    for column in table.columns:
        definition = _definition(connection, column)
        if column.name not in types:
            yield (
                f"table {table.name} has no column {column.name}: restore it from a backup, or add it with "
                f"ALTER TABLE {table.name} ADD COLUMN {definition}"
            )
        elif not _kind_of(types[column.name]) & _kind_of(column.type):
            yield (
                f"column {column.name} of table {table.name} is {types[column.name]}: give it back its type, "
                f"{definition.partition(' ')[2]}"
            )


def _kind_of(column_type: TypeEngine[Any]) -> frozenset[str]:
    """Whether it holds numbers, texts or times; all of these for a type that SQLAlchemy does not know."""
    try:
        python_type = column_type.python_type
    except NotImplementedError:
        return frozenset(_KINDS.values())
    return frozenset(kind for known, kind in _KINDS.items() if issubclass(python_type, known))


_KINDS: dict[type, str] = {int: "number", float: "number", Decimal: "number", str: "text", datetime: "time"}


def _add_what_is_missing(connection: Connection) -> None:
    """MySQL commits at each of these statements, and another controller may do the same at the same time: each can be
    repeated, and can find its work half done.
    """
    for table in _METADATA.sorted_tables:
        connection.execute(CreateTable(table, if_not_exists=True))
        present = {column["name"] for column in inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name not in present:
                _add(connection, f"ALTER TABLE {table.name} ADD COLUMN {_definition(connection, column)}")
        indexed = {index["name"] for index in inspect(connection).get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexed:
                statement, names = DIALECTS[connection.dialect.name].add_index, ", ".join(index.columns.keys())
                _add(connection, statement.format(table=table.name, index=index.name, columns=names))
    try:
        with connection.begin_nested():
            connection.execute(insert(STREAM).values(id=1, stream=secrets.token_hex(8), last_event=0))
    except IntegrityError:
        pass  # the stream goes on


def _definition(connection: Connection, column: Column[Any]) -> str:
    return str(CreateColumn(column).compile(dialect=connection.dialect))


def _add(connection: Connection, statement: str) -> None:
    try:
        connection.execute(text(statement))
    except DBAPIError as error:
        dialect = DIALECTS[connection.dialect.name]
        if error.orig is None or dialect.error_code(error.orig) not in dialect.duplicates:
            raise


def _store_version(connection: Connection) -> None:
    """Never lowers a version: a newer release may have been faster."""
    values = {"version": SCHEMA_VERSION, "readable_by": READABLE_BY}
    try:
        with connection.begin_nested():
            connection.execute(insert(VERSIONS).values(id=1, **values))
    except IntegrityError:
        connection.execute(update(VERSIONS).where(VERSIONS.c.version < SCHEMA_VERSION).values(values))
