"""What the scrapes of a Prometheus cost the heartbeats of a cluster with many models."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.load import CONNECTIONS, HEARTBEAT, REGISTER, send, send_count, send_paced
from benchmarks.report import Bound, MeasurementError, Row, Section, say
from benchmarks.sides import start_ctl
from dbgpt_ctl.controller.metrics.declarations import MAX_MODEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.load import Paced
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

MODELS, INSTANCES = MAX_MODEL_NAMES, 5 * MAX_MODEL_NAMES
"""As many models as have series of their own."""
SCRAPE_EVERY_SECS = 1.0
CAPACITY_SECS, ROUND_SECS, ROUNDS = 3.0, 4.0, 10
MOVED = Bound(most=20)
"""Milliseconds."""
FORMATS = {
    "no scrapes": None,
    "text": "text/plain;version=0.0.4",
    "OpenMetrics": "application/openmetrics-text;version=1.0.0",
}
"""What a scrape asks for, by the name of the side."""
BEAT = replace(HEARTBEAT, models=MODELS)


@dataclass
class Side:
    """What was measured in all rounds of one side: of the heartbeats and, where there are any, of the scrapes."""

    beats: list[Paced] = field(default_factory=list)
    scrapes: list[float] = field(default_factory=list)
    """Seconds, from the request to the last byte."""
    size: int = 0
    """Bytes of the newest answer."""

    def moved(self, other: Side) -> float:
        """By how many milliseconds the p99 of the heartbeats is above the other's: the median of the rounds."""
        return median(1000 * (a.p99 - b.p99) for a, b in zip(self.beats, other.beats, strict=True))


def run(lab: Lab, seconds: float) -> list[Section]:  # noqa: ARG001 - a section's shape
    """Rounds in turn without scrapes, and with one a second in each format, at half of the capacity."""
    server = start_ctl(lab, "metrics", INSTANCES, "--log-level", "warning")
    count = INSTANCES + CONNECTIONS
    send_count(lab.folder, server.url, replace(REGISTER, models=MODELS), INSTANCES, count)
    rate = round(send(lab.folder, server.url, BEAT, INSTANCES, CAPACITY_SECS).per_second / 2)
    say(f"half of the capacity: {rate:,} heartbeats a second")
    sides = {name: Side() for name in FORMATS}
    for number in range(ROUNDS):
        for name in list(sides) if number % 2 == 0 else reversed(sides):
            _round(lab, server, sides[name], FORMATS[name], rate)
            server.settle()
        say(", ".join(f"{name}: p99 {1000 * side.beats[-1].p99:.1f} ms" for name, side in sides.items()))
    return [_section(sides, rate)]


def _round(lab: Lab, server: Server, side: Side, accept: str | None, rate: int) -> None:
    with _scraping(server, side, accept):
        beats = send_paced(lab.folder, server.url, BEAT, INSTANCES, rate=rate, seconds=ROUND_SECS)
    if beats.failed:
        raise MeasurementError(f"{beats.failed} heartbeats failed")
    side.beats.append(beats)


@contextmanager
def _scraping(server: Server, side: Side, accept: str | None) -> Iterator[None]:
    """Scrapes once a second, as a Prometheus does, until the block is left, unless `accept` is None."""
    if accept is None:
        yield
        return
    ended = threading.Event()
    failures: list[str] = []
    scraper = threading.Thread(target=_scrape, args=(server.url, side, accept, ended, failures))
    scraper.start()
    try:
        yield
    finally:
        ended.set()
        scraper.join()
    if failures:
        raise MeasurementError(f"a scrape failed: {failures[0]}")


def _scrape(url: str, side: Side, accept: str, ended: threading.Event, failures: list[str]) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    while not ended.wait(SCRAPE_EVERY_SECS):
        began = time.perf_counter()
        try:
            connection.request("GET", "/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            failures.append(str(error))
            return
        side.scrapes.append(time.perf_counter() - began)
        side.size = len(body)
        if answer.status != 200 or not answer.headers["Content-Type"].startswith(accept.partition(";")[0]):
            failures.append(f"{answer.status} {answer.headers['Content-Type']}")
    connection.close()


def _section(sides: dict[str, Side], rate: int) -> Section:
    without, *scraped = sides.values()
    moved = [side.moved(without) for side in scraped]
    title = f"{INSTANCES:,} instances of {MODELS:,} models, {rate:,} heartbeats a second"
    return Section(
        (title, *FORMATS),
        [
            Row(("heartbeat, p50, ms", *(_ms(beats.median for beats in side.beats) for side in sides.values()))),
            Row(("heartbeat, p99, ms", *(_ms(beats.p99 for beats in side.beats) for side in sides.values()))),
            Row(("p99 moved by, ms", "", *(f"{one:.1f}" for one in moved)), max(moved), MOVED),
            Row(("time of a scrape, ms", "", *(_ms(side.scrapes) for side in scraped))),
            Row(("size of a scrape with gzip, kB", "", *(f"{side.size / 1000:,.0f}" for side in scraped))),
        ],
        f"One scrape each second, and half of the heartbeats that the controller can answer; {ROUNDS} rounds in turns.",
    )


def _ms(seconds: Iterator[float] | list[float]) -> str:
    return f"{1000 * median(seconds):.1f}"
