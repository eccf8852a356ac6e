"""Lines of the log that a stranger causes are limited in number."""

from __future__ import annotations

import logging

from dbgpt_ctl.controller.logs.log_limit import EVERY_SECS, LimitedWarnings

BAD = "Invalid HTTP request received."


def record(at: float, text: str = BAD, level: int = logging.WARNING, name: str = "uvicorn.error") -> logging.LogRecord:
    made = logging.LogRecord(name, level, __file__, 1, text, None, None)
    made.created = at
    return made


def test_one_line_is_logged_and_the_next_one_counts_the_others() -> None:
    limit, now = LimitedWarnings(), 1e9
    assert [limit.filter(record(now + second)) for second in range(5)] == [True, False, False, False, False]
    later = record(now + EVERY_SECS)
    assert limit.filter(later)
    assert later.getMessage() == f"{BAD} (4 more like it since the last such line)"


def test_other_lines_are_all_logged() -> None:
    limit = LimitedWarnings()
    assert limit.filter(record(1e9))
    assert limit.filter(record(1e9, "another text"))
    for _ in range(3):
        assert limit.filter(record(1e9, level=logging.ERROR))
        assert limit.filter(record(1e9, name="dbgpt_ctl"))


def test_a_clock_that_was_set_back_hides_nothing_for_long() -> None:
    limit = LimitedWarnings()
    assert limit.filter(record(1e9))
    assert limit.filter(record(1e9 - 2 * EVERY_SECS))
