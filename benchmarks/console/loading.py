"""From navigation to the first table, beside static pages of the same size."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.console.static import ALL, INERT, filled, page, serve_files
from benchmarks.console.visit import visiting, waited
from benchmarks.report import Bound, MeasurementError, Row, Section, ratio_of, say
from tests.support.dbgpt_process import get

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from playwright.sync_api import Browser

    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

ROUNDS, WARM_UPS = 12, 1
ROWS_OF_A_PAGE = 100
"""So many rows has one page of the table of instances."""
MOST = Bound(most=4)
_NOTE_ROWS = """
benchmark.first = benchmark.painted(() => benchmark.rows() > 0);
benchmark.whole = benchmark.painted(() => benchmark.rows() >= %d);
"""
_TIMES = "() => Promise.all([benchmark.first, benchmark.whole])"
_BYTES = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""


@dataclass(frozen=True)
class Target:
    """A page, and how many rows its first table has when it is whole."""

    url: str
    rows: int


@dataclass
class Times:
    """Milliseconds from navigation to the paint of the first row, and of the last one of the table; one per round."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)


def run(lab: Lab, browser: Browser, server: Server, models: int) -> list[Section]:
    """The console's view of instances and its overview, in turns with both static pages."""
    console = {
        "instances": Target(f"{server.url}/console/instances", ROWS_OF_A_PAGE),
        "overview": Target(f"{server.url}/console/", 1),
    }
    size = bytes_of(browser, console["instances"])
    targets = console | _static(lab, server, size)
    times = {name: Times() for name in targets}
    for number in range(-WARM_UPS, ROUNDS):
        for name in list(targets) if number % 2 == 0 else reversed(targets):
            first, whole = _visit(browser, targets[name])
            if number >= 0:
                times[name].first.append(first)
                times[name].whole.append(whole)
        say(", ".join(f"{name} {one.whole[-1]:.0f} ms" for name, one in times.items() if one.whole))
    return [section(times, server.instances, models, size)]


def bytes_of(browser: Browser, target: Target) -> int:
    """What a browser loads for the table, as it comes over the wire, without heads."""
    with visiting(browser, target.url, _NOTE_ROWS % target.rows) as shown:
        waited(shown, _TIMES)
        return int(shown.evaluate(_BYTES))


def _static(lab: Lab, server: Server, size: int) -> dict[str, Target]:
    files = serve_files(lab)
    instances = _instances(server)
    few = page(instances[:ROWS_OF_A_PAGE])
    return {
        ALL: Target(files.put(ALL, page(instances)), len(instances)),
        INERT: Target(files.put(INERT, filled(few, size)), ROWS_OF_A_PAGE),
    }


def _instances(server: Server) -> Sequence[dict[str, Any]]:
    listed: list[dict[str, Any]] = (get(f"{server.url}/api/v1/instances") or {}).get("instances", [])
    if len(listed) != server.instances:
        raise MeasurementError(f"{server.name} lists {len(listed)} of {server.instances} instances")
    return listed


def _visit(browser: Browser, target: Target) -> tuple[float, float]:
    with visiting(browser, target.url, _NOTE_ROWS % target.rows) as shown:
        first, whole = waited(shown, _TIMES)
    return first, whole


def section(times: Mapping[str, Times], instances: int, models: int, size: int) -> Section:
    """A row for each view of the console beside each static page."""
    title = f"{instances:,} instances of {models:,} models, navigation to table, ms"
    view, overview = times["instances"], times["overview"]
    same_bytes, same_rows = times[INERT], times[ALL]
    rows = [
        _row("instances, beside as many bytes with 100 rows", view.whole, same_bytes.whole),
        _row("instances, beside all rows, whole", view.whole, same_rows.whole),
        _row("instances, beside all rows, first row", view.first, same_rows.first),
        _row("overview, beside as many bytes with 100 rows", overview.whole, same_bytes.whole),
    ]
    note = (
        f"Medians of {len(view.whole)} rounds in turns, in Chromium, with nothing cached; ratios are medians of the "
        f"ratios of each round. The console loads {size / 1000:,.0f} kB, nearly all of it the list of instances. A "
        f"static page of as many bytes has a table of {ROWS_OF_A_PAGE} rows, as the console's first page has, and "
        "bytes that do nothing; the other one has a row for each instance."
    )
    return Section((title, "console", "static", "ratios"), rows, note)


def _row(name: str, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    cells = (name, f"{median(ours):,.0f}", f"{median(theirs):,.0f}", f"{ratios[0]:.1f} to {ratios[-1]:.1f}")
    return Row(cells, ratio_of(ours, theirs), MOST)
