"""What the number of instances costs: heartbeats and lists of a few and of very many, over each kind of registry.

The instances send heartbeats in turn, so a cache that holds fewer than all of them never holds the one that comes next.
`ctl serve` counts the instances for metrics meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import HEARTBEAT, LIST_ALL, LIST_ONE, send
from benchmarks.report import Bound, Row, Section, say
from benchmarks.rounds import ROUNDS, meter
from benchmarks.sides import start_ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

SIZES = (100, 2_000, 30_000, 100_000)
BEAT_SECS = 6.0
"""Of one measurement of heartbeats: instances are counted at least once in that time."""
FLAT = Bound(least=0.75)
PER_MODEL = 10


@dataclass
class Figures:
    """Of one server, a figure of each round."""

    beats: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    lists: list[float] = field(default_factory=list)
    full_lists: list[float] = field(default_factory=list)


def run(lab: Lab, seconds: float) -> list[Section]:
    """The registry in memory, and SQLite."""

    def embedded(instances: int) -> Server:
        return start_ctl(lab, f"embedded-{instances}", instances, "--log-level", "warning")

    def sqlite(instances: int) -> Server:
        file = str(lab.folder / f"{instances}.sqlite")
        flags = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", file)
        return start_ctl(lab, f"sqlite-{instances}", instances, "--log-level", "warning", *flags)

    return [compare(lab, embedded, seconds, title="Embedded registry"), compare(lab, sqlite, seconds, title="SQLite")]


def compare(lab: Lab, start: Callable[[int], Server], seconds: float, *, title: str) -> Section:
    """Controllers of this project with each number of instances, in turns. They end with the section."""
    servers = [start(instances) for instances in SIZES]
    for server in servers:
        server.fill(lab.folder, models=server.instances // PER_MODEL)
    found = [Figures() for _ in servers]
    for number in range(ROUNDS):
        for server, figures in list(zip(servers, found, strict=True))[:: 1 if number % 2 == 0 else -1]:
            _measure(lab, server, figures, seconds)
    for server in servers:
        server.process.kill()
    return _section(servers, found, title)


def _measure(lab: Lab, server: Server, figures: Figures, seconds: float) -> None:
    server.settle()
    heartbeat = replace(HEARTBEAT, models=server.instances // PER_MODEL)
    sent = send(lab.folder, server.url, heartbeat, server.instances, BEAT_SECS)
    figures.beats.append(sent.per_second)
    figures.p99.append(1000 * sent.p99)
    say(f"{server.instances:,}: {sent.per_second:,.0f} heartbeats a second, p99 {1000 * sent.p99:.1f} ms")
    figures.lists.append(meter(lab.folder, server, LIST_ONE, seconds)())
    figures.full_lists.append(meter(lab.folder, server, LIST_ALL, seconds)())


def _section(servers: Sequence[Server], found: Sequence[Figures], title: str) -> Section:
    beats = [median(figures.beats) for figures in found]

    def row(name: str, values: list[float]) -> Row:
        return Row((name, *(f"{value:,.0f}" if value >= PER_MODEL else f"{value:.1f}" for value in values)))

    rows = [
        Row(row("heartbeats a second", beats).cells, min(beats) / beats[0], FLAT),
        row("a heartbeat takes, 99 of 100 less than, ms", [median(figures.p99) for figures in found]),
        row("lists of one model a second", [median(figures.lists) for figures in found]),
        row("lists of all a second", [median(figures.full_lists) for figures in found]),
    ]
    heads = (title, *(f"{server.instances:,} instances" for server in servers))
    note = (
        f"Kept connections, {PER_MODEL} instances of each model; medians of {ROUNDS} rounds. Ratio: slowest to first."
    )
    return Section(heads, rows, note)
