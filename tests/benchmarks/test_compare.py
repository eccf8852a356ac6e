from __future__ import annotations

from pathlib import Path

from benchmarks.compare import Side, in_turn, interval, report

OLD, NEW, AGAIN = (Side(name, Path(name)) for name in ("old", "new", "again"))


def test_the_interval_of_twenty_values_lies_between_the_sixth_and_the_fifteenth() -> None:
    assert interval([float(n) for n in range(20, 0, -1)]) == (6.0, 15.0)


def test_the_interval_of_few_values_is_all_of_them() -> None:
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert interval([1.0]) == (1.0, 1.0)


def test_every_other_pair_goes_backwards() -> None:
    sides = (OLD, NEW, AGAIN)
    assert in_turn(sides, 0) == sides
    assert in_turn(sides, 1) == (AGAIN, NEW, OLD)


def test_a_median_that_is_slower_is_marked() -> None:
    old = {"embedded: list": [100.0] * 20, "start: ctl serve": [2.0] * 20}
    new = {"embedded: list": [90.0] * 20, "start: ctl serve": [4.0] * 20}
    _, _, lists, starts = report({"old": old, "new": new, "again": old}, 20).splitlines()
    assert lists == ("| embedded: list | 100/s | 90/s | 0.900 | 0.900 to 0.900 | **no** | 1.000 | 1.000 to 1.000 |")
    assert starts.startswith("| start: ctl serve | 500.0 ms | 250.0 ms | 2.000 | 2.000 to 2.000 | yes |")
