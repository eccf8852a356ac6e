"""The parts of `python -m benchmarks --only console`, on one controller and in one browser."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.console import growth, loading, start, use
from benchmarks.load import CONNECTIONS, REGISTER, send_count
from benchmarks.report import MeasurementError, Section, say
from benchmarks.sides import start_ctl

if TYPE_CHECKING:
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

INSTANCES, MODELS = 5000, 1000


def run(lab: Lab, seconds: float) -> list[Section]:  # noqa: ARG001 - a section's shape
    """Raises MeasurementError without Playwright or Chromium."""
    try:
        from tests.browser.chromium import chromium, missing_chromium
    except ImportError as error:
        raise MeasurementError(f"{error}: pip install '.[browser]'") from None
    if absent := missing_chromium():
        raise MeasurementError(absent)
    sections = start.run(lab)
    server = started(lab, "console")
    with chromium() as browser:
        say(f"Chromium {browser.version}")
        return [
            *sections,
            *loading.run(lab, browser, server, MODELS),
            *use.run(browser, server, MODELS),
            *growth.run(browser, server, MODELS),
        ]


def started(lab: Lab, name: str) -> Server:
    """A controller with all instances. None of them expires."""
    server = start_ctl(lab, name, INSTANCES, "--log-level", "warning")
    send_count(lab.folder, server.url, replace(REGISTER, models=MODELS), INSTANCES, INSTANCES + CONNECTIONS)
    server.settle()
    return server
