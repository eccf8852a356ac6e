"""What a database's error means: worth another try, wait until it is back, or call a person. Messages are one line
without secrets.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dbgpt_ctl.errors import RegistryError, RegistryUnavailable, RegistryUnusable

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["is_conflict", "lost_connection", "meaning_of", "place_of"]

# MySQL's numbers: https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
_CONFLICTS = frozenset({1020, 1062, 1205, 1213, 1412, 1684})
"""Record changed, duplicate key (another controller was first), lock wait timeout, deadlock; another controller
upgrades the table (two).
"""
_BAD_CALL = frozenset({1048, 1264, 1265, 1366, 1406})
"""A value that the column does not take."""
_UNUSABLE = dict.fromkeys((1044, 1045, 1698), "check user, password and grants")
_UNUSABLE |= dict.fromkeys((1142, 1143), "grant it, or let a user who may create tables start a controller once")
_UNUSABLE |= dict.fromkeys((1054, 1146), "these are not the tables of this release")
_UNUSABLE |= {1049: "create it (CREATE DATABASE) or name another"}

_SQLITE_CONFLICTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SQLITE_UNUSABLE = {
    sqlite3.SQLITE_PERM: "make it writable",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "name a file that can be created and written",
    sqlite3.SQLITE_CORRUPT: "put a sound copy in its place, or name another file",
    sqlite3.SQLITE_NOTADB: "name another file",
    sqlite3.SQLITE_ERROR: "name another file, or move this one away",
}
_SQLITE_BAD_CALL = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})


def place_of(url: URL) -> str:
    """The database as errors and logs name it: `10.0.0.7:3306/dbgpt` or a file's path; never user or password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host
    return f"{host or 'localhost'}:{url.port or 3306}/{url.database or ''}"


def is_conflict(error: Exception) -> bool:
    """Whether another transaction was in the way, so that the same transaction may well succeed at once."""
    cause = _cause(error)
    if isinstance(cause, sqlite3.Error):
        return _sqlite_code(cause) in _SQLITE_CONFLICTS
    return _mysql_code(cause) in _CONFLICTS


def lost_connection(error: Exception) -> bool:
    """Whether the connection was dead, which says nothing about a new one."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def meaning_of(error: Exception, place: str) -> RegistryError | None:
    """The error as this package tells it; None when it is not the database but what it was asked to do."""
    cause = _cause(error)
    if isinstance(error, PoolTimeout):
        return RegistryUnavailable(f"database {place}: all connections are busy")
    if isinstance(cause, sqlite3.Error):
        code, unusable, bad_call = _sqlite_code(cause), _SQLITE_UNUSABLE, _SQLITE_BAD_CALL
    elif isinstance(error, DBAPIError):
        code, unusable, bad_call = _mysql_code(cause), _UNUSABLE, _BAD_CALL
    else:
        return None
    if code in bad_call:
        return None
    said = cause.args[1] if len(cause.args) > 1 else cause
    message = f"database {place}: {' '.join(str(said).split()) or type(cause).__name__}"
    return RegistryUnusable(f"{message}; {unusable[code]}") if code in unusable else RegistryUnavailable(message)


def _cause(error: Exception) -> BaseException:
    return error.orig or error if isinstance(error, DBAPIError) else error


def _sqlite_code(cause: sqlite3.Error) -> int:
    """Without the upper bits, which only refine it."""
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF


def _mysql_code(cause: BaseException) -> int:
    code = cause.args[0] if cause.args else 0
    return code if isinstance(code, int) else 0
