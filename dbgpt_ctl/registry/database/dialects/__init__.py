"""The databases that a registry can use: one module for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.database_types import DATABASE_TYPES
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.registry.database.dialects.mysql import MySQL
from dbgpt_ctl.registry.database.dialects.sqlite import SQLite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL

    from dbgpt_ctl.registry.database.dialects.base import DatabaseDialect

DIALECTS: Mapping[str, DatabaseDialect] = {name: dialect for dialect in (MySQL(), SQLite()) for name in dialect.names}
"""By each name that SQLAlchemy has for the database, as in `connection.dialect.name`."""


def dialect_of(url: URL) -> DatabaseDialect:
    """Raises UsageError for a database that this package cannot use."""
    name = url.get_backend_name()
    if name not in DIALECTS:
        raise UsageError(f"database {name!r} is not supported: use {' or '.join(DATABASE_TYPES)}")
    return DIALECTS[name]
