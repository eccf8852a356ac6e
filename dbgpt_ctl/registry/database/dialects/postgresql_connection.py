"""A connection of psycopg whose waits are bounded, and that tells its password to no server that has not proven who it
is.

libpq bounds how long a connection may take to come about, and nothing after that: behind a server that stands still,
or a network that drops packets, a call would wait for hours.
"""

from __future__ import annotations

from time import monotonic
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.adapt import Loader
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Generator

ANSWER_SECS = 60.0
"""The longest that the answer to a statement may take, however steadily it comes."""
_TIMESTAMP = psycopg.adapters.types["timestamp"].oid
_FAST_LOADER: Any = psycopg.adapters.get_loader(_TIMESTAMP, Format.TEXT)


class LimitedConnection(psycopg.Connection[Any]):
    """As psycopg's connection, but raises OperationalError, and is closed, when the server sends nothing for
    `silence_secs`.
    """

    silence_secs = ANSWER_SECS

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """The same steps. psycopg wakes it several times a second with 0 while the socket is not ready."""
        began = heard = monotonic()
        ready = None
        while True:
            try:
                wanted = gen.send(ready)
            except StopIteration as ended:
                return ended.value
            ready = yield wanted
            now = monotonic()
            if ready:
                heard = now
            if now - heard > self.silence_secs or now - began > ANSWER_SECS:
                self.pgconn.finish()
                error = psycopg.OperationalError(f"the server timed out, after {now - began:.1f} s")
                error.__context__ = TimeoutError()  # as it is when a socket has its own limit
                raise error


class _TimeOrText(Loader):
    """A time, or the text of one that Python cannot hold, such as `infinity`: only its own row is unreadable then."""

    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        self._load = _FAST_LOADER(oid, context).load

    def load(self, data: Any) -> Any:
        try:
            return self._load(data)
        except psycopg.DataError:
            return bytes(data).decode()


def connect(*args: Any, silence_secs: float, **options: Any) -> LimitedConnection:
    """As `psycopg.connect`."""
    connection = LimitedConnection.connect(*args, **options)
    connection.silence_secs = silence_secs
    connection.adapters.register_loader("timestamp", _TimeOrText)
    return connection


DRIVER = SimpleNamespace(**{**vars(psycopg), "connect": connect})
"""psycopg as SQLAlchemy takes it, with this connection."""
