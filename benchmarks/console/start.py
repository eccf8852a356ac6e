"""What the console adds to the start of `ctl serve`."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.report import Bound, Row, Section, ratio_of, say
from benchmarks.startup import time_server

if TYPE_CHECKING:
    from benchmarks.startup import Start
    from tests.support.dbgpt_cluster import Lab

PAIRS, WARM_UPS = 15, 2
SIDES = {"with": (), "without": ("--no-console",)}
MOST = Bound(most=1.03)


def run(lab: Lab) -> list[Section]:
    """Starts in pairs, in the reverse order every other time."""
    found: dict[str, list[Start]] = {name: [] for name in SIDES}
    for number in range(-WARM_UPS, PAIRS):
        for name in list(SIDES) if number % 2 == 0 else reversed(SIDES):
            start = time_server(lab.env(), lab.folder, *SIDES[name])
            if number >= 0:
                found[name].append(start)
    for name, starts in found.items():
        say(f"{name}: {' '.join(f'{1000 * start.seconds:.0f}' for start in starts)} ms")
    return [section(found["with"], found["without"])]


def section(with_console: list[Start], without: list[Start]) -> Section:
    """The times until the first answer, by the clock and of the processor."""
    rows = []
    for name, ours, theirs in (
        ("until healthy", [one.seconds for one in with_console], [one.seconds for one in without]),
        ("until healthy, processor time", [one.cpu_secs for one in with_console], [one.cpu_secs for one in without]),
    ):
        cells = (f"`ctl serve`, {name}", f"{1000 * median(ours):,.0f}", f"{1000 * median(theirs):,.0f}")
        rows.append(Row(cells, ratio_of(ours, theirs), MOST))
    return Section((f"Start, milliseconds, {PAIRS} pairs", "with the console", "`--no-console`"), rows)
