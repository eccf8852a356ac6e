"""100,000 instances beat for minutes against one controller over one MariaDB: nobody is lost, nobody waits long."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.load import HEARTBEAT, send_paced
from benchmarks.mysql import durable_mariadb, start_ours
from benchmarks.report import Bound, Row, Section, say
from tests.support.dbgpt_process import get

if TYPE_CHECKING:
    from benchmarks.load import Paced
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

INSTANCES = 100_000
EVERY_SECS = 20
TIMEOUT_SECS = 60
MAX_P99_SECS = 1.0
MAX_MEGABYTES = 300.0
WITHIN = Bound(most=1)
NONE = Bound(most=0)


def run(lab: Lab, seconds: float) -> list[Section]:
    """`seconds`: how long they beat."""
    with durable_mariadb() as mariadb:
        ours = start_ours(lab, mariadb, "soak", INSTANCES, "--heartbeat-timeout-secs", str(TIMEOUT_SECS))
        ours.fill(lab.folder)
        say(f"{INSTANCES:,} instances beat every {EVERY_SECS} s, for {seconds:.0f} s")
        rate = INSTANCES // EVERY_SECS
        beats = send_paced(lab.folder, ours.url, HEARTBEAT, INSTANCES, rate=rate, seconds=seconds)
        # Before the list of all, which needs memory of its own.
        memory = _most_megabytes(ours)
        turned = ours.process.log.read_text(errors="replace").count(" is unhealthy")
        listed = get(f"{ours.url}/api/controller/models", healthy_only="true") or []
        return [_section(beats, memory, turned + INSTANCES - len(listed), seconds)]


def _section(beats: Paced, memory: float, unhealthy: int, seconds: float) -> Section:
    planned = round(INSTANCES / EVERY_SECS * seconds)
    return Section(
        (f"MariaDB, {INSTANCES:,} instances beat every {EVERY_SECS} s for {seconds:.0f} s", "measured", "allowed"),
        [
            Row(("beats answered, of those planned", f"{beats.answered:,}", f"{planned:,}"), beats.answered / planned),
            Row(("a beat takes, median", f"{beats.median * 1000:,.0f} ms", "")),
            Row(
                ("a beat takes, 99 of 100 less than", f"{beats.p99 * 1000:,.0f} ms", f"{MAX_P99_SECS * 1000:,.0f} ms"),
                beats.p99 / MAX_P99_SECS,
                WITHIN,
            ),
            Row(
                ("memory of the controller, at most", f"{memory:,.0f} MB", f"{MAX_MEGABYTES:,.0f} MB"),
                memory / MAX_MEGABYTES,
                WITHIN,
            ),
            Row(("instances that turned unhealthy", f"{unhealthy}", "0"), unhealthy, NONE),
            Row(("beats that failed", f"{beats.failed}", "0"), beats.failed, NONE),
        ],
        "The controller, the database and the load generator share the machine.",
    )


def _most_megabytes(server: Server) -> float:
    """The most memory that the process ever had (Linux)."""
    status = Path(f"/proc/{server.process.popen.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1000 if found else float("nan")
