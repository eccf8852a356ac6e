from __future__ import annotations

from benchmarks.load import Paced
from benchmarks.metrics import FORMATS, Side, _section


def side(*p99: float, scrape: float = 0.1) -> Side:
    return Side([Paced(100, 0, 1.0, 0.001, seconds) for seconds in p99], [scrape], 25_000)


def test_the_p99_moves_by_the_median_of_the_rounds() -> None:
    """A round in which the whole machine was slow counts on both sides."""
    assert round(side(0.010, 0.500, 0.013).moved(side(0.008, 0.490, 0.010)), 6) == 3.0


def test_a_table_misses_its_bound_where_one_format_does() -> None:
    sides = dict(zip(FORMATS, (side(0.01), side(0.02), side(0.031)), strict=True))
    missed = [row.cells for row in _section(sides, 5000).rows if row.missed]
    assert missed == [("p99 moved by, ms", "", "10.0", "21.0")]
    sides["OpenMetrics"] = side(0.029)
    assert not any(row.missed for row in _section(sides, 5000).rows)
