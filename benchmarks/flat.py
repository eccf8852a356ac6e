"""The cost of a heartbeat does not grow with the number of instances."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import HEARTBEAT
from benchmarks.report import Bound, Row, Section, ratio_of
from benchmarks.rounds import measure
from benchmarks.sides import start_ctl

if TYPE_CHECKING:
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

FEW, MANY = 100, 100_000


def run(lab: Lab, seconds: float) -> list[Section]:
    few, many = (start_ctl(lab, f"flat-{count}", count, "--log-level", "warning") for count in (FEW, MANY))
    return [compare(lab, few, many, seconds, title="Embedded registry", bound=Bound(least=0.8))]


def compare(lab: Lab, few: Server, many: Server, seconds: float, *, title: str, bound: Bound) -> Section:
    """Heartbeats at two controllers of this project, which are filled first."""
    for server in (few, many):
        server.fill(lab.folder)
        server.settle()
    at_few, at_many = measure(lab.folder, (few, many), HEARTBEAT, seconds)
    cells = (HEARTBEAT.name, f"{median(at_few):,.0f}", f"{median(at_many):,.0f}")
    heads = (f"{title}, requests a second", *(f"{server.instances:,} instances" for server in (few, many)))
    return Section(heads, [Row(cells, ratio_of(at_many, at_few), bound)])
