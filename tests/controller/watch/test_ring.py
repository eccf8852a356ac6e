"""Positions in the ring of the newest messages."""

from __future__ import annotations

import pytest

from dbgpt_ctl.controller.api.params import Cursor
from dbgpt_ctl.controller.watch.ring import Entry, EventRing


def ring_with(numbers: list[int | None], *, size: int = 4) -> EventRing:
    """A ring of the stream `s`; None is a reset."""
    ring = EventRing(size)
    for number in numbers:
        ring.append(Entry(number, None, b"%d" % (number or 0)))
        ring.cursor = Cursor("s", number or 0)
    return ring


def test_an_entry_is_kept_until_it_is_overwritten() -> None:
    ring = ring_with([1, 2, 3, 4, 5])
    assert ring.head == 5
    assert [entry and entry.number for entry in map(ring.entry, range(5))] == [None, 2, 3, 4, 5]
    ring.clear()
    assert ring.head == 5
    assert ring.entry(4) is None


@pytest.mark.parametrize(
    ("cursor", "position"),
    [
        (Cursor("s", 5), 5),
        (Cursor("s", 4), 4),
        (Cursor("s", 1), 1),
        (Cursor("s", 0), None),
        (Cursor("s", 9), 5),
        (Cursor("other", 4), None),
    ],
    ids=["at the end", "before the last", "before the oldest", "overwritten", "ahead", "another stream"],
)
def test_the_position_after_a_cursor(cursor: Cursor, position: int | None) -> None:
    assert ring_with([1, 2, 3, 4, 5]).position_after(cursor) == position


def test_nothing_before_a_reset_is_after_a_cursor() -> None:
    assert ring_with([7, 8, None, 1]).position_after(Cursor("s", 7)) == 4
    assert ring_with([7, 8, None, 2]).position_after(Cursor("s", 0)) is None
