"""The tables of the database registry, and how a database comes to hold their newest version.

`ctl_instance` holds one row per instance: its primary key is the identity itself (rule 6), its columns are the facts of
`ModelInstance` (in a table that was upgraded they stand in another order). `ctl_event` holds the last changes of state,
`ctl_stream` one row: the number of the newest event. `ctl_pulse` holds one row: the last tick of any controller, and
the last gap between two ticks (rule 8). `ctl_schema` holds one row: the version of these tables. Times are UTC with
microseconds, names compare exactly (rule 1).
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Enum,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    and_,
    case,
    insert,
    inspect,
    or_,
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
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection, Dialect, Engine
    from sqlalchemy.types import TypeEngine

_MAX_WORD_CHARS = 16
_MAX_NOTE_CHARS = 255


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC, stored without its offset."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DIALECTS[dialect.name].time_type)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else value.replace(tzinfo=UTC)


_STATE = Enum(
    InstanceState, native_enum=False, length=_MAX_WORD_CHARS, values_callable=lambda states: [*map(str, states)]
)
_OPTIONS = {name: value for dialect in DIALECTS.values() for name, value in dialect.table_options.items()}
_METADATA = MetaData()

INSTANCES = Table(
    "ctl_instance",
    _METADATA,
    Column("model_name", String(MAX_TEXT_CHARS), primary_key=True),
    Column("host", String(MAX_TEXT_CHARS), primary_key=True),
    Column("port", Integer, primary_key=True, autoincrement=False),
    Column("weight", Double, nullable=False),
    Column("check_healthy", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("prompt_template", String(MAX_TEXT_CHARS)),
    Column("registered_at", UtcTime, nullable=False),
    Column("last_heartbeat", UtcTime, nullable=False),
    Column("deregistered_at", UtcTime),
    Column("refused_at", UtcTime),
    Column("drained_at", UtcTime),
    Column("drained_by", String(_MAX_NOTE_CHARS)),
    Column("drain_reason", String(_MAX_NOTE_CHARS)),
    # Defaults, since a controller of the release before may still run beside this one, and knows neither column.
    Column("announced_state", _STATE, nullable=False, server_default=InstanceState.HEALTHY.value),
    Column("flaps", Integer, nullable=False, server_default="0"),
    Column("removed", Boolean, nullable=False),
    sqlite_with_rowid=False,
    **_OPTIONS,
)

VERSIONS = Table(
    "ctl_schema",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
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

EVENTS = Table(
    "ctl_event",
    _METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    Column("model_name", String(MAX_TEXT_CHARS), nullable=False),
    Column("host", String(MAX_TEXT_CHARS), nullable=False),
    Column("port", Integer, nullable=False),
    Column("old_state", String(_MAX_WORD_CHARS), nullable=False),
    Column("new_state", String(_MAX_WORD_CHARS), nullable=False),
    Column("verb", String(_MAX_WORD_CHARS), nullable=False),
    Column("actor", String(_MAX_WORD_CHARS), nullable=False),
    Column("address", String(_MAX_NOTE_CHARS)),
    Column("reason", String(_MAX_NOTE_CHARS)),
    **_OPTIONS,
)

STREAM = Table(
    "ctl_stream",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("stream", String(_MAX_WORD_CHARS), nullable=False),
    Column("last_event", BigInteger, nullable=False),
    **_OPTIONS,
)


def prepare(engine: Engine, place: str) -> None:
    """Creates absent tables and upgrades older ones. Several controllers may do so at the same time.

    A database that is up to date is only read: its user needs no right to create tables. `place` names the database in
    errors. Raises RegistryUnusable for tables of a newer release.
    """
    with engine.begin() as connection:
        found = known_version(connection, place)
        for version in range(found + 1, SCHEMA_VERSION + 1):
            _STEPS[version](connection)
            _store_version(connection, version)


def schema_version(connection: Connection) -> int:
    """The version of the tables that the database holds; 0 when there are none."""
    if not inspect(connection).has_table(VERSIONS.name):
        return 0
    return connection.scalar(select(VERSIONS.c.version)) or 0


def known_version(connection: Connection, place: str) -> int:
    """As `schema_version`. Raises RegistryUnusable for tables of a newer release."""
    version = schema_version(connection)
    if version > SCHEMA_VERSION:
        raise RegistryUnusable(
            f"{place} holds schema version {version}, this release knows versions up to {SCHEMA_VERSION}: "
            "upgrade this controller, or give it another database"
        )
    return version


def _store_version(connection: Connection, version: int) -> None:
    try:
        with connection.begin_nested():
            connection.execute(insert(VERSIONS).values(id=1, version=version))
    except IntegrityError:
        connection.execute(update(VERSIONS).where(VERSIONS.c.version < version).values(version=version))


def _create(connection: Connection) -> None:
    for table in (VERSIONS, INSTANCES, PULSE):
        connection.execute(CreateTable(table, if_not_exists=True))


def _add_events(connection: Connection) -> None:
    inspector = inspect(connection)
    present = inspector.get_columns(INSTANCES.name) if inspector.has_table(INSTANCES.name) else []
    names = {column["name"] for column in present}
    for column in INSTANCES.columns:
        if column.name not in names:
            _add_column(connection, column)
    # Only rows with the default: another controller may use the new columns already.
    deregistered, drained = INSTANCES.c.deregistered_at.is_not(None), ~INSTANCES.c.enabled
    state = case((deregistered, InstanceState.DEREGISTERED.value), else_=InstanceState.DRAINED.value)
    unannounced = and_(INSTANCES.c.announced_state == InstanceState.HEALTHY, or_(deregistered, drained))
    connection.execute(update(INSTANCES).where(unannounced).values(announced_state=state))
    for table in (EVENTS, STREAM):
        connection.execute(CreateTable(table, if_not_exists=True))
    try:
        with connection.begin_nested():
            connection.execute(insert(STREAM).values(id=1, stream=secrets.token_hex(8), last_event=0))
    except IntegrityError:
        pass  # another controller was faster


def _add_column(connection: Connection, column: Column[Any]) -> None:
    definition = CreateColumn(column).compile(dialect=connection.dialect)
    try:
        connection.execute(text(f"ALTER TABLE {INSTANCES.name} ADD COLUMN {definition}"))
    except DBAPIError as error:
        dialect = DIALECTS[connection.dialect.name]
        if error.orig is None or dialect.error_code(error.orig) != dialect.duplicate_column:
            raise


_STEPS: Mapping[int, Callable[[Connection], None]] = {1: _create, 2: _add_events}
"""The upgrade to each version from the one before. MySQL commits at each DDL statement, and other controllers may
upgrade at the same time: each step can be repeated, and can find its work half done.
"""

SCHEMA_VERSION = max(_STEPS)
