"""Inserts many new rows of a table with one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbgpt_ctl.registry.database.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, Connection


def insert_all(connection: Connection, columns: Sequence[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts the rows of one table with one statement. A row holds a hashable value for each of the columns.

    A value is a parameter once, however many rows hold it in that column. Most columns of new rows hold one value, and
    SQLAlchemy and PyMySQL, which are Python, take most of their time for converting and escaping each parameter.
    """
    mark = DIALECTS[connection.dialect.name].named_mark
    parameters: dict[str, Any] = {}
    cells: list[list[str]] = []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        convert = column.type.dialect_impl(connection.dialect).bind_processor(connection.dialect)
        marks = dict.fromkeys(values, "")
        for number, value in enumerate(marks):
            name = f"{column.name}{number}"
            parameters[name] = convert(value) if convert else value
            marks[value] = mark.format(name)
        cells.append([marks[value] for value in values])
    names = ", ".join(column.name for column in columns)
    marked = "), (".join([", ".join(row) for row in zip(*cells, strict=True)])
    connection.exec_driver_sql(
        f"INSERT INTO {columns[0].table} ({names}) VALUES ({marked})",  # noqa: S608 - holds names and marks only
        parameters,
    )
