"""Durations as people write them."""

from __future__ import annotations

import pytest

from dbgpt_ctl.cli.parsing.durations import parse_duration
from dbgpt_ctl.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), ("1d", 86400), ("7", 7), (" .5S ", 0.5), ("24h", 86400)],
)
def test_a_duration_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration("--every", text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "soon", "1 s", "1w", "25h", "1e3", "٣s", "nan", "inf"])
def test_anything_else_names_the_option_and_the_value(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_duration("--every", text)
    assert str(error.value) == (
        f"--every '{text}' is not a duration greater than 0 and at most 24h, such as 10s, 500ms or 2m"
    )


def test_the_limit_may_be_longer() -> None:
    assert parse_duration("--since", "7d", longest_days=366) == 7 * 86400
    with pytest.raises(UsageError, match="at most 366d, such as 30m, 12h or 7d"):
        parse_duration("--since", "367d", longest_days=366)
