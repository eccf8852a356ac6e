"""Texts of changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbgpt_ctl.cli.output.changes import Flaps, line_of
from dbgpt_ctl.domain.events import DRAIN_ENDED, EXPIRED, OPERATOR, Cause, Change
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.domain.texts import cause_text, ordinal

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
KEY = InstanceKey("qwen@llm", "127.0.0.1", 8001)


def expiry(seconds: int) -> Change:
    return Change(NOON + timedelta(seconds=seconds), KEY, "healthy", "unhealthy", EXPIRED)


def test_flaps_are_counted_within_ten_minutes() -> None:
    flaps = Flaps()
    assert [flaps.add(expiry(at)) for at in (0, 60, 600, 601, 3000)] == [1, 2, 3, 3, 1]
    assert flaps.add(Change(NOON, KEY, "healthy", "healthy", Cause("drain", OPERATOR), drained=True)) == 0
    assert cause_text(expiry(0), 1) == "expire"
    assert cause_text(expiry(0), 3) == "expire (3rd time in 10m)"
    assert [ordinal(each) for each in (1, 2, 3, 4, 11, 12, 13, 21, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th")
    ]


@pytest.mark.parametrize(
    ("old", "new", "cause", "drained", "shown"),
    [
        ("healthy", "unhealthy", EXPIRED, False, "healthy -> unhealthy     expire"),
        ("healthy", "unhealthy", EXPIRED, True, "healthy -> unhealthy,drained  expire"),
        (
            "unhealthy",
            "unhealthy",
            Cause("drain", OPERATOR, "disk"),
            True,
            "drained                  drain by operator: disk",
        ),
        ("healthy", "healthy", Cause("undrain", OPERATOR), False, "undrained                undrain by operator"),
        (
            "healthy",
            "healthy",
            Cause("undrain", OPERATOR._replace(name="anna", address="10.0.0.9")),
            False,
            "undrained                undrain by operator anna (10.0.0.9)",
        ),
        (
            "healthy",
            "healthy",
            Cause("undrain", OPERATOR._replace(name="a\x1b[2J\n", address="\u202e")),
            False,
            r"undrained                undrain by operator a\x1b[2J\x0a (\u202e)",
        ),
        ("healthy", "healthy", DRAIN_ENDED, False, "undrained                its time was over"),
    ],
)
def test_a_drain_is_no_change_of_the_state(old: str, new: str, cause: Cause, drained: bool, shown: str) -> None:
    line = line_of(Change(NOON, KEY, old, new, cause, drained=drained), 0, colour=False)
    assert line == f"2026-01-02T12:00:00Z  qwen@llm/127.0.0.1:8001  {shown}"


@pytest.mark.parametrize(
    ("old", "new", "drained", "code"),
    [
        ("healthy", "unhealthy", False, 31),
        ("absent", "healthy", False, 32),
        ("healthy", "unhealthy", True, 33),
        ("healthy", "healthy", True, 33),
    ],
)
def test_a_change_has_the_colour_of_the_state_after_it(old: str, new: str, drained: bool, code: int) -> None:
    assert f"\x1b[{code}m" in line_of(Change(NOON, KEY, old, new, EXPIRED, drained=drained), 0, colour=True)
