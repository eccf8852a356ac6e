"""What a database's error means: worth another try, wait until it is back, or call a person. Messages are one line without secrets."""

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
_DUPLICATE_KEY, _LOCK_TIMEOUT, _DEADLOCK, _RECORD_CHANGED = 1062, 1205, 1213, 1020
_UNKNOWN_DATABASE = 1049
_DENIED = frozenset({1044, 1045, 1698})
_FORBIDDEN = frozenset({1142, 1143, 1370})
_OTHER_SCHEMA = frozenset({1054, 1146})
_CONFLICTS = frozenset({_DUPLICATE_KEY, _LOCK_TIMEOUT, _DEADLOCK, _RECORD_CHANGED})
_BAD_CALL = frozenset({1048, 1264, 1265, 1366, 1406})

_SQLITE_CONFLICTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT})
_SQLITE_UNUSABLE = {
    sqlite3.SQLITE_PERM: "make it writable",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "name a file that can be created and written",
    sqlite3.SQLITE_CORRUPT: "put a sound copy in its place, or name another file",
    sqlite3.SQLITE_NOTADB: "name another file",
    sqlite3.SQLITE_ERROR: "name another file, or move this one away",
}
_SQLITE_AWAY = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
)


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


def meaning_of(error: Exception, url: URL) -> RegistryError | None:
    """The error as this package tells it; None when it is not the database but what it was asked to do."""
    cause, place = _cause(error), place_of(url)
    if isinstance(error, PoolTimeout):
        return RegistryUnavailable(f"database {place}: all connections are busy")
    if isinstance(cause, sqlite3.Error):
        return _meaning_on_sqlite(cause, place)
    if not isinstance(error, DBAPIError):
        return None
    code, words = _mysql_code(cause), _words(cause)
    if code in _BAD_CALL:
        return None
    if code in _DENIED:
        return RegistryUnusable(f"database {place} refused the log-in: {words}; check user, password and grants")
    if code == _UNKNOWN_DATABASE:
        return RegistryUnusable(
            f"database {place} does not exist: create it (CREATE DATABASE `{url.database}`) or name another"
        )
    if code in _FORBIDDEN:
        return RegistryUnusable(f"database {place}: {words}; grant it, or let an administrator start a controller once")
    if code in _OTHER_SCHEMA:
        return RegistryUnusable(f"database {place} holds other tables than this release expects: {words}")
    return RegistryUnavailable(f"database {place}: {words}")


def _meaning_on_sqlite(cause: sqlite3.Error, place: str) -> RegistryError | None:
    code, words = _sqlite_code(cause), _words(cause)
    if code in _SQLITE_UNUSABLE:
        return RegistryUnusable(f"database {place}: {words}; {_SQLITE_UNUSABLE[code]}")
    if code in _SQLITE_AWAY:
        return RegistryUnavailable(f"database {place}: {words}")
    return None


def _cause(error: Exception) -> BaseException:
    return error.orig or error if isinstance(error, DBAPIError) else error


def _sqlite_code(cause: sqlite3.Error) -> int:
    """Without the upper bits, which only refine it."""
    return getattr(cause, "sqlite_errorcode", 0) & 0xFF


def _mysql_code(cause: BaseException) -> int:
    code = cause.args[0] if cause.args else 0
    return code if isinstance(code, int) else 0


def _words(cause: BaseException) -> str:
    """What the database said, on one line."""
    said = cause.args[1] if len(cause.args) > 1 else cause
    return " ".join(str(said).split()) or type(cause).__name__
