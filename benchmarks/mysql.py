"""The same over one MariaDB with its default durability: a commit is on the disk before it is acknowledged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import sizes
from benchmarks.load import HEARTBEAT, HEARTBEAT_NEW, LIST_ALL, LIST_ONE, REGISTER, REGISTER_NEW
from benchmarks.report import Bound, Section
from benchmarks.rounds import measure
from benchmarks.sides import CTL, OURS, THEIRS, start_ctl, start_dbgpt
from benchmarks.wire import new_names_note, row_of
from tests.support.database_server import DatabaseServer, PrivateDatabase, private_server
from tests.support.dbgpt_table import create_dbgpt_registry
from tests.support.mariadb import MariaDBServer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.sides import Server
    from tests.support.dbgpt_cluster import Lab

INSTANCES = 1000
BOUNDS = {
    HEARTBEAT: Bound(least=60),
    HEARTBEAT_NEW: Bound(least=20),
    REGISTER: Bound(least=20),
    LIST_ONE: Bound(least=40),
    LIST_ALL: Bound(least=40),
    REGISTER_NEW: Bound(least=20),  # last: other loads are measured with INSTANCES
}
USER, PASSWORD = "bench", "bench"


def run(lab: Lab, seconds: float) -> list[Section]:
    with durable_mariadb() as mariadb:

        def start(instances: int) -> Server:
            return start_ours(lab, mariadb, str(instances), instances)

        return [_both(lab, mariadb, seconds), sizes.compare(lab, start, seconds, title="MariaDB")]


def durable_mariadb() -> AbstractContextManager[MariaDBServer]:
    """A database server for the benchmark only."""
    return private_server(MariaDBServer, durable=True, user=USER, password=PASSWORD)


def _both(lab: Lab, mariadb: MariaDBServer, seconds: float) -> Section:
    section = Section((f"MariaDB, {INSTANCES:,} instances, requests a second", OURS, THEIRS, ""))
    servers = (start_ours(lab, mariadb, "both", INSTANCES), _theirs(lab, mariadb))
    for server in servers:
        server.fill(lab.folder)
    for load, bound in BOUNDS.items():
        section.rows.append(row_of(load.name, measure(lab.folder, servers, load, seconds), bound))
    for server in servers:
        server.expect()
        server.process.kill()  # it is not needed any more, and the next section needs the machine
    note = "One database for both; innodb_flush_log_at_trx_commit is 1, the default."
    section.note = f"{note} {new_names_note(REGISTER_NEW, INSTANCES)}"
    return section


def start_ours(lab: Lab, server: DatabaseServer, name: str, instances: int, *flags: str, ctl: Path = CTL) -> Server:
    """This controller over a database of its own; `flags` come last on its command line."""
    database = PrivateDatabase(server, f"ctl_{name}")
    database.create()
    # No client has to change to another controller, so it may end at once.
    defaults = ("--registry", "database", "--log-level", "warning", "--shutdown-grace-secs", "0")
    return start_ctl(lab, f"{server.db_type}-{name}", instances, *defaults, *flags, env=database.variables, ctl=ctl)


def _theirs(lab: Lab, mariadb: MariaDBServer) -> Server:
    mariadb.execute("create database dbgpt")
    return start_dbgpt(lab, "mysql-dbgpt", INSTANCES, create_dbgpt_registry(mariadb, "dbgpt", USER, PASSWORD))
