"""How much memory a controller needs for the instances that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.mysql import durable_mariadb, start_ours
from benchmarks.report import Row, Section
from benchmarks.sides import start_ctl
from tests.support.dbgpt_process import get

if TYPE_CHECKING:
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

STEPS = (0, 1_000, 10_000, 100_000)
_MODELS_PATH = "/api/controller/models"


def run(lab: Lab, seconds: float) -> list[Section]:  # noqa: ARG001 - memory is no matter of seconds
    """Megabytes of a controller with that many instances, and the most that it needs while all of them are listed."""
    with durable_mariadb() as mariadb:
        sides = [
            [_measured(lab, start_ctl(lab, f"memory-{count}", count, "--log-level", "warning")) for count in STEPS],
            [_measured(lab, start_ours(lab, mariadb, f"memory_{count}", count)) for count in STEPS],
        ]
    rows = [
        Row((f"{count:,} instances", *(f"{megabytes:,.0f}" for side in sides for megabytes in side[index])))
        for index, count in enumerate(STEPS)
    ]
    heads = ("Memory of a controller, MB", "embedded", "after a list of all", "MariaDB", "after a list of all")
    note = "Resident memory (VmRSS); a new controller for each figure. The second figure is the highest so far (VmHWM)."
    return [Section(heads, rows, note)]


def _measured(lab: Lab, server: Server) -> tuple[float, float]:
    if server.instances:
        server.fill(lab.folder)
        server.settle()
    resting = megabytes(server, "VmRSS")
    get(f"{server.url}{_MODELS_PATH}")
    most = megabytes(server, "VmHWM")
    server.process.kill()
    return resting, most


def megabytes(server: Server, line: str) -> float:
    """A line of /proc/PID/status (Linux), such as VmHWM, the most memory that the process ever had."""
    status = Path(f"/proc/{server.process.popen.pid}/status").read_text()
    found = [row.split()[1] for row in status.splitlines() if row.startswith(f"{line}:")]
    return int(found[0]) / 1000 if found else float("nan")
