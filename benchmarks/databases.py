"""The same loads over each database that a registry can use, in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

import psutil

from benchmarks.load import HEARTBEAT, LIST_ALL, LIST_ONE, REGISTER, REGISTER_NEW, send
from benchmarks.mysql import start_ours
from benchmarks.report import MeasurementError, Row, Section
from benchmarks.rounds import measure
from benchmarks.sides import start_ctl
from tests.support.database_server import DatabaseServer, private_server
from tests.support.mariadb import MariaDBServer
from tests.support.mysql_server import MySQLServer, missing_programs
from tests.support.postgresql_server import PostgreSQLServer

if TYPE_CHECKING:
    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

SIZES = (1_000, 30_000)
LOADS = (HEARTBEAT, REGISTER, LIST_ONE, LIST_ALL, REGISTER_NEW)
"""New names come last: other loads are measured with the same number of instances."""
CPU_SECS = 5.0


@dataclass
class Side:
    """A controller and its database; SQLite has no server."""

    controller: Server
    database: DatabaseServer | None = None

    def cpu_secs(self) -> tuple[float, float]:
        """Processor time so far: of the controller, and of the database."""
        if self.database is None or self.database.process is None:
            return self.controller.cpu_secs(), 0.0
        server = psutil.Process(self.database.process.pid)
        times = (sum(one.cpu_times()[:2]) for one in (server, *server.children(recursive=True)))
        return self.controller.cpu_secs(), sum(times)


def run(lab: Lab, seconds: float) -> list[Section]:
    if missing := missing_programs():
        raise MeasurementError(missing)
    with ExitStack() as stack:
        kinds: tuple[type[DatabaseServer], ...] = (MariaDBServer, MySQLServer, PostgreSQLServer)
        servers = [stack.enter_context(private_server(kind, durable=True)) for kind in kinds]
        return [_compared(lab, servers, instances, seconds) for instances in SIZES]


def _compared(lab: Lab, servers: list[DatabaseServer], instances: int, seconds: float) -> Section:
    sides = [Side(start_ours(lab, server, str(instances), instances), server) for server in servers]
    sides.append(Side(_sqlite(lab, instances)))
    names = [*(server.product for server in servers), "SQLite"]
    controllers = [replace(side.controller, name=name) for side, name in zip(sides, names, strict=True)]
    for controller in controllers:
        controller.fill(lab.folder)
    rows = [_row(load.name, measure(lab.folder, controllers, load, seconds)) for load in LOADS]
    spent = [_cpu_of_a_heartbeat(lab, side) for side in sides]
    rows.insert(1, _row("CPU of a heartbeat, controller, µs", [[microseconds] for microseconds, _ in spent]))
    rows.insert(2, _row("CPU of a heartbeat, database, µs", [[microseconds] for _, microseconds in spent]))
    for controller in controllers:
        controller.process.kill()  # the next ones need the machine
    note = "Each server as durable as it is by default: a commit is on the disk. Medians of the rounds, in turns."
    return Section((f"{instances:,} instances, requests a second", *names), rows, note)


def _sqlite(lab: Lab, instances: int) -> Server:
    file = str(lab.folder / f"databases-{instances}.sqlite")
    flags = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", file)
    return start_ctl(lab, f"databases-sqlite-{instances}", instances, "--log-level", "warning", *flags)


def _cpu_of_a_heartbeat(lab: Lab, side: Side) -> tuple[float, float]:
    """Of the controller and of the database, in microseconds."""
    side.controller.settle()
    before = side.cpu_secs()
    answered = send(lab.folder, side.controller.url, HEARTBEAT, side.controller.instances, CPU_SECS).answered
    controller, database = (1e6 * (now - then) / answered for now, then in zip(side.cpu_secs(), before, strict=True))
    return controller, database


def _row(name: str, figures: list[list[float]]) -> Row:
    return Row((name, *(f"{median(rates):,.0f}" for rates in figures)))
