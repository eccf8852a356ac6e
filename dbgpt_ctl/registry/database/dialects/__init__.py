"""The databases that a registry can use: one module for each, named like its type in `databases`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dbgpt_ctl.databases import DATABASE_TYPES
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import URL

    from dbgpt_ctl.registry.database.dialects.base import DatabaseDialect

_MODULES = [import_module(f"{__name__}.{name}") for name in DATABASE_TYPES]
DIALECTS: Mapping[str, DatabaseDialect] = {name: module.DIALECT for module in _MODULES for name in module.DIALECT.names}
"""By each name that SQLAlchemy has for the database, as in `connection.dialect.name`."""


def dialect_of(url: URL) -> DatabaseDialect:
    """Raises UsageError for a database that this package cannot use."""
    name = url.get_backend_name()
    if name not in DIALECTS:
        raise UsageError(f"database {name!r} is not supported: use {', '.join(DATABASE_TYPES)}")
    return DIALECTS[name]
