"""Texts of changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dbgpt_ctl.cli.output.changes import Flaps, cause_text, ordinal
from dbgpt_ctl.domain.events import EXPIRED, OPERATOR, Cause, Change
from dbgpt_ctl.domain.instance import InstanceKey

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
KEY = InstanceKey("qwen@llm", "127.0.0.1", 8001)


def expiry(seconds: int) -> Change:
    return Change(NOON + timedelta(seconds=seconds), KEY, "healthy", "unhealthy", EXPIRED)


def test_flaps_are_counted_within_ten_minutes() -> None:
    flaps = Flaps()
    assert [flaps.add(expiry(at)) for at in (0, 60, 600, 601, 3000)] == [1, 2, 3, 3, 1]
    assert flaps.add(Change(NOON, KEY, "healthy", "drained", Cause("drain", OPERATOR))) == 0
    assert cause_text(expiry(0), 1) == "expire"
    assert cause_text(expiry(0), 3) == "expire (3rd time in 10m)"
    assert [ordinal(each) for each in (1, 2, 3, 4, 11, 12, 13, 21, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th")
    ]
