"""100,000 instances beat for minutes against one controller over one MariaDB: nobody is lost, nobody waits long.

In a second form each beat has a connection of its own, as the beats of DB-GPT's workers have, and the highest rate that
can be sustained is searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.load import HEARTBEAT, HEARTBEAT_NEW, PACED_CONNECTIONS, fill, send_paced
from benchmarks.memory import megabytes
from benchmarks.mysql import durable_mariadb, start_ours
from benchmarks.report import Bound, Row, Section, say
from tests.support.dbgpt_process import get

if TYPE_CHECKING:
    from benchmarks.load import Load, Paced
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab
    from tests.support.mariadb import MariaDBServer

INSTANCES = 100_000
EVERY_SECS = 20
TIMEOUT_SECS = 60
MAX_P99_SECS = 1.0
MAX_MEGABYTES = 300.0
WITHIN = Bound(most=1)
NONE = Bound(most=0)
LEAST_ANSWERED = 0.97
"""Of the beats that were due: with fewer, beats start late, because too many wait for their answers."""
RATE_STEPS = (1000, 250)
"""By how many beats a second the search goes up: coarse, until a rate is not sustained, then fine."""
STEP_SECS, TRIES = 10.0, 2


def run(lab: Lab, seconds: float) -> list[Section]:
    """`seconds`: how long they beat."""
    with durable_mariadb() as mariadb:
        ours = _start(lab, mariadb)
        return [_measured(lab, ours, HEARTBEAT, seconds)]


def run_new_connections(lab: Lab, seconds: float) -> list[Section]:
    """The same with a connection for each beat, and then more and more beats a second. `seconds`: without the latter.

    The time that a beat takes begins when it is sent. Its connection is made before, and waits for its turn.
    """
    with durable_mariadb() as mariadb:
        ours = _start(lab, mariadb)
        section = _measured(lab, ours, HEARTBEAT_NEW, seconds)
        section.rows += _highest(lab, ours)
        section.note += (
            " The controller closes first, as it is asked to, so the generator does not run out of ports. A rate is "
            f"sustained if {LEAST_ANSWERED:.0%} of the beats of {STEP_SECS:.0f} s are answered in that time, 99 of 100 "
            f"of them in less than {MAX_P99_SECS:g} s, and none fails, in one of {TRIES} tries."
        )
        return [section]


def _start(lab: Lab, mariadb: MariaDBServer) -> Server:
    ours = start_ours(lab, mariadb, "soak", INSTANCES, "--heartbeat-timeout-secs", str(TIMEOUT_SECS))
    # Over many connections: with a slow disk it would take longer than instances stay healthy.
    fill(lab.folder, ours.url, INSTANCES, connections=PACED_CONNECTIONS)
    ours.expect()
    return ours


def _measured(lab: Lab, ours: Server, load: Load, seconds: float) -> Section:
    say(f"{INSTANCES:,} instances beat every {EVERY_SECS} s, for {seconds:.0f} s: {load.name}")
    rate, before = INSTANCES // EVERY_SECS, _times_unhealthy(ours)
    beats = send_paced(lab.folder, ours.url, load, INSTANCES, rate=rate, seconds=seconds)
    # Before the list of all, which needs memory of its own.
    memory = megabytes(ours, "VmHWM")
    turned = _times_unhealthy(ours) - before
    listed = get(f"{ours.url}/api/controller/models", healthy_only="true") or []
    section = _section(beats, memory, turned + INSTANCES - len(listed), seconds)
    if load is HEARTBEAT_NEW:
        section.columns = (f"{section.columns[0]}, each on a new connection", *section.columns[1:])
    return section


def _highest(lab: Lab, ours: Server) -> list[Row]:
    """The highest rate that is sustained, as rows of the table."""
    rate = 0
    for step in RATE_STEPS:
        while any(_sustains(lab, ours, rate + step) for _ in range(TRIES)):
            rate += step
    return [
        Row(("highest rate sustained, beats a second", f"{rate:,}", "")),
        Row((f"instances that beat every {EVERY_SECS} s at that rate", f"{rate * EVERY_SECS:,}", "")),
    ]


def _sustains(lab: Lab, ours: Server, rate: int) -> bool:
    beats = send_paced(lab.folder, ours.url, HEARTBEAT_NEW, INSTANCES, rate=rate, seconds=STEP_SECS)
    answered = beats.answered / (rate * beats.seconds)
    say(f"{rate:,} beats a second: {answered:.1%} answered, p99 {beats.p99 * 1000:,.0f} ms, {beats.failed} failed")
    return answered >= LEAST_ANSWERED and beats.p99 <= MAX_P99_SECS and not beats.failed


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


def _times_unhealthy(server: Server) -> int:
    return server.process.log.read_text(errors="replace").count(" is unhealthy")
