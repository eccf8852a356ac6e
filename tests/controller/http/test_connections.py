"""Which connections close to make room for a new one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.connections import LOG_SECS, LOOK_AGAIN_SECS, Admission, ConnectionFigures, LimitLog

if TYPE_CHECKING:
    import pytest


@dataclass
class Fake:
    rank: tuple[int, float] | None = None
    end: list[str] = field(default_factory=list)
    client: tuple[str, int] | None = None

    def eviction_rank(self) -> tuple[int, float] | None:
        return self.rank

    def drop(self) -> None:
        self.end.append("dropped")

    def evict(self) -> None:
        self.end.append("made way")

    def refuse(self) -> None:
        self.end.append("refused")


def admission(limit: int) -> Admission:
    return Admission(ConnectionFigures([], limit))


def test_a_client_loses_its_connections_at_both_listeners() -> None:
    """A port of the client may be used for one connection to each: a sibling must not save the one that is meant."""
    clients = ("10.0.0.4", 5000), ("10.0.0.4", 5000), ("10.0.0.4", 5001), ("10.0.0.5", 5000)
    connections = [Fake(client=client) for client in clients]
    figures = ConnectionFigures(connections, 16)
    assert figures.drop_reader(clients[0])
    assert [connection.end for connection in connections] == [["dropped"], ["dropped"], [], []]
    assert figures.drop(set(clients[2:]))
    assert not figures.drop((("10.0.0.6", 5000),))
    assert [connection.end for connection in connections[2:]] == [["dropped"], ["dropped"]]


def test_the_least_rank_closes_first() -> None:
    busy, paused, incomplete, idle = Fake(), Fake((2, 0.0)), Fake((1, 0.0)), Fake((0, 9.0))
    later_idle = Fake((0, 10.0))
    others = [busy, paused, incomplete, later_idle, idle]
    admission(limit=5).make_room(Fake(), iter(others), 20.0)
    assert [other.end for other in others] == [[], [], [], [], ["made way"]]


def test_many_close_at_once_where_there_are_many() -> None:
    room = admission(limit=640)
    others = [Fake((0, float(number))) for number in range(640)]
    room.make_room(Fake(), iter(others), 1000.0)
    assert [number for number, other in enumerate(others) if other.end] == list(range(10))
    assert (room.figures.closed, room.figures.refused) == (10, 0)


def test_a_new_one_is_refused_where_none_can_close_and_all_are_looked_through_only_now_and_then() -> None:
    room, newest, others = admission(limit=2), [Fake() for _ in range(3)], [Fake(), Fake()]
    room.make_room(newest[0], iter(others), 1.0)
    others[0].rank = (0, 1.0)
    room.make_room(newest[1], iter(others), 1.0 + LOOK_AGAIN_SECS / 2)
    assert others[0].end == []
    room.make_room(newest[2], iter(others), 1.0 + LOOK_AGAIN_SECS)
    assert others[0].end == ["made way"]
    assert [one.end for one in newest] == [["refused"], ["refused"], []]
    assert (room.figures.closed, room.figures.refused) == (1, 2)


def test_a_limit_that_is_reached_is_logged_once_a_minute_with_what_was_done(caplog: pytest.LogCaptureFixture) -> None:
    figures = ConnectionFigures([], 16)
    limits = LimitLog(figures)
    limits.tick(1000.0)
    figures.closed, figures.refused = 25, 3
    limits.tick(1001.0)
    figures.closed = 40
    limits.tick(1002.0)
    limits.tick(1001.0 + LOG_SECS)
    limits.tick(1001.0 + 3 * LOG_SECS)
    first, second = [record.getMessage() for record in caplog.records]
    assert first.startswith(
        "there were more than 16 connections: 25 were closed to make room, and 3 new ones were refused; "
    )
    assert "max_connections" in first
    assert "15 were closed to make room, and 0 new ones" in second


def test_peers_that_do_not_read_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    figures = ConnectionFigures([], 16, readers_dropped=2)
    LimitLog(figures).tick(1000.0)
    assert [record.getMessage() for record in caplog.records] == [
        "2 connections were closed because the peer did not read its answer or its watch"
    ]
