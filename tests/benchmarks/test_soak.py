"""The soak: which form runs, and the search for the highest rate."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest

from benchmarks import __main__ as command
from benchmarks import soak


@pytest.mark.parametrize(
    ("arguments", "sections"),
    [
        (["--only", "soak"], ["soak"]),
        (["--only", "soak", "--new-connections"], ["soak-new-connections"]),
        (["--only", "soak-new-connections"], ["soak-new-connections"]),
        (["--only", "wire", "--new-connections"], ["wire"]),
    ],
)
def test_the_form_of_the_soak(arguments: list[str], sections: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert command._arguments().only == sections


def test_the_highest_rate_is_the_last_that_is_sustained(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def sustains(_lab: Any, _ours: Any, rate: int) -> bool:
        asked.append(rate)
        return rate <= 2600

    monkeypatch.setattr(soak, "_sustains", sustains)
    rows = soak._highest(cast("Any", None), cast("Any", None))
    assert [row.cells[1] for row in rows] == ["2,500", "50,000"]
    assert asked == [1000, 2000, 3000, 3000, 2250, 2500, 2750, 2750]
