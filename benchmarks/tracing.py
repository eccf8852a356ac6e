"""Tracing to an endpoint that does not answer costs a register almost nothing."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.load import REGISTER
from benchmarks.report import Bound, Row, Section, ratio_of
from benchmarks.rounds import measure
from benchmarks.sides import start_ctl
from tests.support.ports import free_port

if TYPE_CHECKING:
    from tests.support.dbgpt_cluster import Lab

INSTANCES = 2000
TIMES = 4
"""How often the rounds are repeated, with shorter measurements: the bound is narrow, and other load varies more."""
BOUND = Bound(least=0.95)


def run(lab: Lab, seconds: float) -> list[Section]:
    settings = {
        "CONTROLLER_TRACER_TO_OPEN_TELEMETRY": "true",
        "CONTROLLER_OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    off = start_ctl(lab, "tracing-off", INSTANCES, "--log-level", "error")
    dead = start_ctl(lab, "tracing-dead", INSTANCES, "--log-level", "error", env=settings)
    for server in (off, dead):
        server.fill(lab.folder)
        server.settle()
    without: list[float] = []
    traced: list[float] = []
    for _ in range(TIMES):
        at_off, at_dead = measure(lab.folder, (off, dead), REGISTER, seconds / 2)
        without += at_off
        traced += at_dead
    cells = (REGISTER.name, f"{median(without):,.0f}", f"{median(traced):,.0f}")
    heads = ("Embedded registry, requests a second", "tracing off", "tracing to a dead endpoint")
    return [Section(heads, [Row(cells, ratio_of(traced, without), BOUND)])]
