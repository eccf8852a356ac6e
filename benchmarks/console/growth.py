"""Whether the memory of a page stays flat while ten thousand changes arrive."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.console.changes import CHANGES, burst, key_of
from benchmarks.console.visit import visiting, waited
from benchmarks.report import Bound, MeasurementError, Row, Section, say
from dbgpt_ctl.client.sync import ControllerClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from playwright.sync_api import Browser, CDPSession, Page

    from benchmarks.sides import Server

EVENTS, SAMPLES = 10_000, 20
CHANGED = EVENTS // SAMPLES // CHANGES
"""So many instances change in a burst. Some of them are on the first page of the table."""
FLAT = Bound(most=1.05)
VIEWS = {"instances": "console/instances", "events": "console/events"}
SETTLE_MILLIS = 1500
"""After a burst the page reads what the changes did not tell."""
_SHOWS = '(text) => benchmark.painted(() => document.querySelector("main").textContent.includes(text))'
_SETTLED = f"() => new Promise((resolve) => setTimeout(resolve, {SETTLE_MILLIS}))"


@dataclass(frozen=True)
class Sample:
    """What a page holds after a collection of garbage."""

    heap: float
    """Megabytes of JavaScript objects."""
    nodes: float
    listeners: float


def run(browser: Browser, server: Server, models: int) -> list[Section]:
    """Samples of each view while it is open: before the first burst, and after each one."""
    return [section({view: _samples(browser, server, models, path) for view, path in VIEWS.items()})]


def _samples(browser: Browser, server: Server, models: int, path: str) -> list[Sample]:
    with (
        ControllerClient(server.url, actor="operator") as client,
        visiting(browser, f"{server.url}/{path}") as page,
    ):
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        before = client.events(limit=1).last_id
        samples = []
        for number in range(SAMPLES):
            burst(client, models, CHANGED, remove=number % 2 == 1)
            _catch_up(page, client, models, f"after burst {number} of {path}")
            samples.append(_sample(session))
            say(f"{path}: {samples[-1]}")
        if (changes := client.events(limit=1).last_id - before) < EVENTS:
            raise MeasurementError(f"{changes} of {EVENTS} changes")
    return samples


def _catch_up(page: Page, client: ControllerClient, models: int, mark: str) -> None:
    """Waits until the page shows a change that comes after the burst, and has read what it does not know."""
    key = key_of(models, models)  # the second one on the first page
    client.drain(key, reason=mark)
    waited(page, _SHOWS, mark)
    client.undrain(key)
    waited(page, _SETTLED)


def _sample(session: CDPSession) -> Sample:
    for _ in range(2):  # what ends in the first collection lets go of more
        session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return Sample(found["JSHeapUsedSize"] / 1e6, found["Nodes"], found["JSEventListeners"])


def section(found: Mapping[str, Sequence[Sample]]) -> Section:
    """The medians of the first and of the last quarter of the samples, and their ratio."""
    kinds: dict[str, Callable[[Sample], float]] = {
        "JavaScript heap, MB": lambda sample: sample.heap,
        "nodes": lambda sample: sample.nodes,
        "listeners": lambda sample: sample.listeners,
    }
    rows = []
    for view, samples in found.items():
        quarter = len(samples) // 4
        for name, of in kinds.items():
            first, last = (median(map(of, part)) for part in (samples[:quarter], samples[-quarter:]))
            digits = 1 if "MB" in name else 0
            rows.append(
                Row((f"view of {view}: {name}", f"{first:,.{digits}f}", f"{last:,.{digits}f}"), last / first, FLAT)
            )
    heads = (f"Console, {EVENTS:,} changes while a view is open", "first quarter", "last quarter")
    note = f"After a collection of garbage, at each {EVENTS // SAMPLES:,} changes; medians of each quarter."
    return Section(heads, rows, note)
