"""`python -m benchmarks`: measures, and prints the tables of docs/figures.md."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import (
    access,
    charts,
    databases,
    memory,
    metrics,
    mysql,
    sizes,
    soak,
    startup,
    tls,
    tracing,
    watch,
    wire,
)
from benchmarks.console import sections as console
from benchmarks.report import MeasurementError, block, say
from benchmarks.sides import THEIRS, lab_in
from scripts.markers import replaced
from tests.support.dbgpt import NEWEST, UnavailableError, ensure
from tests.support.dbgpt_process import processes_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Section
    from tests.support.dbgpt_cluster import Lab

SECTIONS: dict[str, Callable[[Lab, float], list[Section]]] = {
    "startup": startup.run,
    "wire": wire.run,
    "sizes": sizes.run,
    "tracing": tracing.run,
    "tls": tls.run,
    "access": access.run,
    "metrics": metrics.run,
    "console": console.run,
    "mysql": mysql.run,
    "databases": databases.run,
    "memory": memory.run,
    "soak": soak.run,
    "soak-new-connections": soak.run_new_connections,
    "watch": watch.run,
}
OPTIONAL = {
    "mysql": "mysql",
    "databases": "mysql",
    "watch": "mysql",
    "soak": "soak",
    "soak-new-connections": "new_connections",
}
"""Sections that need an option, and its name."""
BY_NAME = {"memory"}
"""Sections that only --only runs: docs/figures.md has their tables outside of what --write writes."""
ALONE = {"databases", "watch", "access", "metrics", "console", "sizes"}
"""Sections that measure no other controller."""
SOAK_MINUTES = {"soak": 5.0, "soak-new-connections": 1.0}
"""The sections that last for minutes, and how many by default."""
SHOWN_VERSIONS = ("uvicorn", "fastapi")


def main() -> int:
    """Exit code 0; 1 when a bound is missed and --check is given; 2 when something could not be measured."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that all started processes are ended
    try:
        names = arguments.only or [
            name
            for name in SECTIONS
            if name not in BY_NAME and (name not in OPTIONAL or getattr(arguments, OPTIONAL[name]))
        ]
        if not set(names) <= {*SOAK_MINUTES, *ALONE, *BY_NAME}:
            ensure(NEWEST)
        sections = _measure(names, arguments.seconds, arguments.minutes)
        text = block(
            sections, datetime.now(UTC), [*(f"{name} {metadata.version(name)}" for name in SHOWN_VERSIONS), THEIRS]
        )
        print(text)
        if arguments.write:
            page = replaced(charts.FIGURES.read_text(), "bench", text)
            charts.FIGURES.write_text(page)
            charts.write(page)
    except (MeasurementError, UnavailableError, AssertionError) as error:
        say(f"not measured: {error}")
        return 2
    missed = [row for section in sections for row in section.rows if row.missed]
    for row in missed:
        say(f"missed: {row.cells[0]}: {row.ratio:.2f}, bound {row.bound}")
    return 1 if missed and arguments.check else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures this controller beside DB-GPT's."
    )
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="this section; may be repeated")
    parser.add_argument("--mysql", action="store_true", help="also over database servers, which are started for it")
    parser.add_argument("--soak", action="store_true", help="also the soak")
    parser.add_argument("--seconds", type=float, default=2, help="length of one measurement (default 2)")
    parser.add_argument(
        "--new-connections",
        action="store_true",
        help="also the soak with a connection for each heartbeat; with --only soak, only this form",
    )
    parser.add_argument(
        "--minutes", type=float, help="length of the soak (default 5, and 1 with a connection for each heartbeat)"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bound is missed")
    parser.add_argument("--write", action="store_true", help="write docs/figures.md and its charts; not with --only")
    arguments = parser.parse_args()
    if arguments.write and arguments.only:
        parser.error("--write takes a whole run, not --only some of it")
    if arguments.only and arguments.new_connections:
        arguments.only = ["soak-new-connections" if name == "soak" else name for name in arguments.only]
    return arguments


def _measure(names: list[str], seconds: float, minutes: float | None) -> list[Section]:
    """Each section in a folder of its own. Its processes are ended when it is done or has failed."""
    sections = []
    for name in names:
        say(f"--- {name}")
        with tempfile.TemporaryDirectory(prefix="ctl-bench-") as folder, processes_in(Path(folder), []) as start:
            length = (minutes or SOAK_MINUTES[name]) * 60 if name in SOAK_MINUTES else seconds
            sections += SECTIONS[name](lab_in(Path(folder), start), length)
    return sections


if __name__ == "__main__":
    sys.exit(main())
