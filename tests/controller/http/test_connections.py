"""Which connections close to make room for a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbgpt_ctl.controller.http.connections import LOOK_AGAIN_SECS, Admission, ConnectionFigures


@dataclass
class Fake:
    rank: tuple[int, float] | None = None
    end: list[str] = field(default_factory=list)

    def dispensable(self) -> tuple[int, float] | None:
        return self.rank

    def make_way(self) -> None:
        self.end.append("made way")

    def refuse(self) -> None:
        self.end.append("refused")


def admission(limit: int) -> Admission:
    return Admission(ConnectionFigures([], limit))


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
