"""The connections of a server: how many there may be, which of them close to make room for a new one, and the figures
of both.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from heapq import nsmallest
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

log = logging.getLogger(__name__)

SHARE_CLOSED_AT_ONCE = 64
"""One in this many closes at once, so that a flood of connections does not look through all of them each time."""
LOOK_AGAIN_SECS = 0.1
"""After no connection could close, the next look at all of them is this much later."""
LOG_SECS = 60.0
"""How much time lies at least between two lines of the log about the same limit."""


@dataclass
class ConnectionFigures:
    """What /api/v1/status reports of the server's connections, since the start. `limit`: how many there may be."""

    connections: Collection[Any]
    limit: int
    closed: int = 0
    """How many closed to make room for a new one."""
    refused: int = 0
    """How many new ones were refused, because no other one could close."""
    readers_dropped: int = 0
    """How many were closed because the peer did not take what was sent to it."""

    def drop_reader(self, client: object) -> bool:
        """As `drop`, and counts it: the peer did not take what was sent to it."""
        is_dropped = self.drop((client,))
        self.readers_dropped += is_dropped
        return is_dropped

    def drop(self, clients: Collection[object]) -> bool:
        """Ends the connections of the clients with these addresses and ports; whether there is such a one. A client may
        have one at each listener.
        """
        found = [connection for connection in self.connections if connection.client in clients]
        for connection in found:
            connection.drop()
        return bool(found)


class Connection(Protocol):
    """What `Admission` needs of a connection."""

    def eviction_rank(self) -> tuple[int, float] | None:
        """Whether it may close to make room: the least closes first. None while it is of use to its peer."""

    def evict(self) -> None:
        """Closes it, for another one."""

    def refuse(self) -> None:
        """Closes it, because no other one could close."""


class Admission:
    """Makes room for a new connection beyond the limit.

    First close the connections that were idle for the longest time since their last answer, then those whose request is
    not complete, then those whose peer does not take its answer. DB-GPT's clients open a connection for each call and
    send the request at once, so a new connection is most likely a call that a worker needs, and none of these is. A
    connection whose request is being answered is never closed: if all others are such, the new one is refused. To let
    it wait would not help its client, which may have no timeout, while a refused one can try another controller.
    """

    def __init__(self, figures: ConnectionFigures) -> None:
        self.figures = figures
        self._none_until = 0.0

    def admit(self, newest: Connection, now: float) -> None:
        """Makes room if `newest`, which is among the connections already, is one too many. `now` as in `make_room`."""
        connections = self.figures.connections
        if len(connections) > self.figures.limit:
            self.make_room(newest, (each for each in connections if each is not newest), now)

    def make_room(self, newest: Connection, others: Iterator[Connection], now: float) -> None:
        """Closes some of `others`, or `newest`. `now` is the event loop's time, in seconds."""
        victims: list[Connection] = []
        if now >= self._none_until:
            victims = self._dispensable(others)
            self._none_until = now if victims else now + LOOK_AGAIN_SECS
        for victim in victims:
            victim.evict()
        self.figures.closed += len(victims)
        if not victims:
            self.figures.refused += 1
            newest.refuse()

    def _dispensable(self, others: Iterator[Connection]) -> list[Connection]:
        ranked: list[tuple[tuple[int, float], Any]] = [
            (rank, other) for other in others if (rank := other.eviction_rank()) is not None
        ]
        many = max(1, self.figures.limit // SHARE_CLOSED_AT_ONCE)
        return [other for _, other in nsmallest(many, ranked, key=itemgetter(0))]


class LimitLog:
    """Logs what the limits of connections did since the last line: each limit at most once in LOG_SECS."""

    def __init__(self, figures: ConnectionFigures) -> None:
        self._figures = figures
        self._room = _Since(LOG_SECS)
        self._readers = _Since(LOG_SECS)

    def tick(self, now: float) -> None:
        """`now` is the event loop's time, in seconds."""
        figures = self._figures
        if new := self._room.grown((figures.closed, figures.refused), now):
            log.warning(
                "there were more than %d connections: %d were closed to make room, and %d new ones were refused; find "
                "out who opens so many (ss -tn), or raise max_connections and the limit of open files (ulimit -n)",
                figures.limit,
                *new,
                extra={"event": "connections.limit"},
            )
        if new := self._readers.grown((figures.readers_dropped,), now):
            log.warning(
                "%d connections were closed because the peer did not read its answer or its watch",
                *new,
                extra={"event": "connections.readers_dropped"},
            )


class _Since:
    """By how much counts have grown since the last time that this was asked with an answer."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._before: tuple[int, ...] = ()
        self._not_before = 0.0

    def grown(self, counts: tuple[int, ...], now: float) -> tuple[int, ...]:
        """The difference of each count; empty if there is none, or if the last answer is less than the pause ago."""
        before = self._before or (0,) * len(counts)
        if counts == before or now < self._not_before:
            return ()
        self._before, self._not_before = counts, now + self._pause
        return tuple(count - old for count, old in zip(counts, before, strict=True))
