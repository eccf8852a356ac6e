"""Durations as people write them."""

from __future__ import annotations

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.text.times import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1d", 86400), (" .5S ", 0.5), ("24h", 86400)],
)
def test_a_duration_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration("--every", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1s", "-1", "1e9", "86401", "soon", "1 s", "1w", "25h", "1e3", "٣s", "nan", "inf"]
)
def test_anything_else_names_the_option_and_the_value(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_duration("--every", text)
    assert str(error.value) == (
        f"--every '{text}' is not a duration greater than 0 and at most 24h, such as 10s, 500ms or 2m"
    )


@pytest.mark.parametrize(
    ("text", "longest_days", "fix"),
    [
        ("7", 366, "write 7s, 7m, 7h or 7d"),
        ("5", 1, "write 5s, 5m or 5h"),
        ("0.5", 1, "write 0.5s, 0.5m, 0.5h or 0.5d"),
        ("1440", 1, "write 1440s or 1440m"),
        ("5000", 1, "write 5000s"),
    ],
)
def test_a_number_without_a_unit_is_refused_with_the_units_that_fit(text: str, longest_days: int, fix: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_duration("--older-than", text, longest_days=longest_days)
    assert str(error.value) == f"--older-than '{text}' has no unit of time: {fix}"


def test_the_limit_may_be_longer() -> None:
    assert parse_duration("--since", "7d", longest_days=366) == 7 * 86400
    with pytest.raises(UsageError, match="at most 366d, such as 30m, 12h or 7d"):
        parse_duration("--since", "367d", longest_days=366)
