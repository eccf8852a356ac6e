"""Texts of instances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbgpt_ctl.cli.output.instances import age_text

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-30, "0s ago"),
        (0, "0s ago"),
        (0.9, "0s ago"),
        (119, "119s ago"),
        (120, "2m ago"),
        (7199, "119m ago"),
        (7200, "2h ago"),
        (200_000, "2d ago"),
    ],
)
def test_ages(seconds: float, age: str) -> None:
    assert age_text(NOW - timedelta(seconds=seconds), NOW) == age
