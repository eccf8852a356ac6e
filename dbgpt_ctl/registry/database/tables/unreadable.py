"""Rows that cannot be read: they hold values that no release stores, as a person or another program may leave them.

One such row must not fail the others. Rows are read in the fast way. When that fails, `read_rows` reads them again,
value by value.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import type_coerce
from sqlalchemy.types import NullType

from dbgpt_ctl.domain.instance import InstanceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from sqlalchemy import Connection, Select

    T = TypeVar("T")

BAD_VALUE = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What reading a value raises that is not of its column's type."""
BOOLS = {0: False, 1: True}
"""Of JSON. NULL is a KeyError; `bool` would make it false."""
_MAX_SHOWN_CHARS = 40


class UnreadableRow(NamedTuple):
    """`values` are those of the row as the driver gave them, by the names of the columns. `reason` names a column and
    its value.
    """

    table: str
    values: Mapping[str, Any]
    reason: str

    @property
    def key(self) -> InstanceKey | None:
        """The identity of an instance's row, if its values have the right types."""
        key = InstanceKey(*(self.values.get(column) for column in InstanceKey._fields))  # type: ignore[arg-type]
        return key if is_identity(key) else None

    @property
    def name(self) -> str:
        """The row in messages: the identity of an instance, or the first column, such as the id."""
        column, value = next(iter(self.values.items()))
        if column != "model_name":
            return f"{column} {shown(value)}"
        model_name, host, port = (name_in(self.values.get(column)) for column in InstanceKey._fields)
        return f"{model_name}/{host}:{port}"

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def is_identity(key: InstanceKey) -> bool:
    """Whether its values have the right types: SQLite stores any."""
    return isinstance(key.model_name, str) and isinstance(key.host, str) and isinstance(key.port, int)


def shown(value: Any) -> str:
    """A value in a message: short, and in printable ASCII."""
    if value is None:
        return "NULL"
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def name_in(value: Any) -> str:
    """A name in a message, as it is if that can be printed."""
    return value if isinstance(value, str) and value.isprintable() else shown(value)


def read_rows(
    connection: Connection, query: Select[Any], read: Callable[[Any], T], unreadable: list[UnreadableRow] | None = None
) -> list[T]:
    """`read` of each row of `query`, which selects columns. Rows for which that fails are left out, and are appended
    to `unreadable`.
    """
    try:
        return [read(row) for row in connection.execute(query)]
    except BAD_VALUE:
        return _read_one_by_one(connection, query, read, [] if unreadable is None else unreadable)


def _read_one_by_one(
    connection: Connection, query: Select[Any], read: Callable[[Any], T], unreadable: list[UnreadableRow]
) -> list[T]:
    columns = list(query.selected_columns)
    plain = query.with_only_columns(*(type_coerce(column, NullType()).label(column.name) for column in columns))
    table = str(columns[0].table)
    row_type: Any = namedtuple("row_type", [column.name for column in columns])  # type: ignore[misc]
    found: list[T] = []
    result: Any = connection.execute(plain)
    readers = [
        _reader_of(column, description[1], connection)
        for column, description in zip(columns, result.cursor.description, strict=True)
    ]
    for row in result:
        values = dict(zip(row_type._fields, row, strict=True))
        try:
            reason = None
            typed = []
            for column, reader in zip(columns, readers, strict=True):
                reason = reason_of(column.name, values[column.name])
                if values[column.name] is None and not getattr(column, "nullable", True):
                    raise ValueError(reason)
                typed.append(reader(values[column.name]))
            reason = None
            found.append(read(row_type._make(typed)))
        except BAD_VALUE as error:
            unreadable.append(UnreadableRow(table, values, reason or str(error)))
    return found


def reason_of(column: str, value: Any) -> str:
    """What is wrong with a row, by the value that makes no sense."""
    return f"{column} is {shown(value)}"


def _reader_of(column: Any, driver_type: Any, connection: Connection) -> Callable[[Any], Any]:
    """How SQLAlchemy makes a value of the column's type of what the driver gives."""
    processor = column.type.dialect_impl(connection.dialect).result_processor(connection.dialect, driver_type)
    return processor or (lambda value: value)
