"""Group replication of MySQL on loopback: several private servers of which one, the primary, may be written to."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from uuid import uuid4

import pymysql

from tests.support.mysql_server import MySQLServer
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PATIENCE_SECS = 60
_UNWANTED = ("--skip-log-bin", "--performance-schema=OFF")
"""The group's log of changes is the binary log, and the states of its members stand in the performance schema."""


@dataclass
class GroupMember(MySQLServer):
    """One server of a group. `start` starts the server alone; `join` makes it a member."""

    number: int = 1
    group: str = ""
    group_port: int = 0
    seeds: Sequence[int] = ()
    """The group ports of all members."""

    def write_init(self) -> None:
        """The user that each creates for itself is no change that the group must have from it."""
        super().write_init()
        file = self.folder / "init.sql"
        file.write_text(f"SET SESSION sql_log_bin = 0;\n{file.read_text()}")

    def command(self) -> list[str]:
        return [
            *(each for each in super().command() if each not in _UNWANTED),
            f"--server-id={self.number}",
            f"--log-bin={self.folder / 'data' / 'log'}",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--report-host=127.0.0.1",
            "--plugin-load-add=group_replication.so",
            "--loose-group-replication-start-on-boot=OFF",
            f"--loose-group-replication-group-name={self.group}",
            f"--loose-group-replication-local-address=127.0.0.1:{self.group_port}",
            f"--loose-group-replication-group-seeds={','.join(f'127.0.0.1:{port}' for port in self.seeds)}",
            "--loose-group-replication-ip-allowlist=127.0.0.0/8",
            "--loose-group-replication-recovery-get-public-key=ON",
            "--loose-group-replication-member-expel-timeout=0",
        ]

    def join(self, *, first: bool = False) -> None:
        """Returns when it has all that the group has. The first one begins the group."""
        self.execute(f"SET GLOBAL group_replication_bootstrap_group = {int(first)}")
        self.execute(f"START GROUP_REPLICATION USER = '{self.user}', PASSWORD = '{self.password}'")
        self.execute("SET GLOBAL group_replication_bootstrap_group = 0")
        deadline = monotonic() + _PATIENCE_SECS
        while self._state() != ("ONLINE", "PRIMARY" if first else "SECONDARY"):
            if monotonic() > deadline:
                raise RuntimeError(f"the server did not join the group: {self._state()}")
            sleep(0.05)

    @property
    def is_primary(self) -> bool:
        """Whether it may be written to."""
        with contextlib.suppress(pymysql.err.MySQLError, OSError):
            return self._state() == ("ONLINE", "PRIMARY")
        return False

    def _state(self) -> tuple[object, ...]:
        """State and role, as this member sees them."""
        rows = self.execute(
            "SELECT member_state, member_role FROM performance_schema.replication_group_members"
            " WHERE member_id = @@GLOBAL.server_uuid"
        )
        return rows[0] if rows else ()

    def read_latest(self, statement: str, database: str) -> list[tuple[object, ...]]:
        """After it has applied what the group committed before this."""
        connection = self.connect(database)
        with connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION group_replication_consistency = 'BEFORE'")
            cursor.execute(statement)
            return list(cursor.fetchall())


@contextlib.contextmanager
def replication_group(size: int = 3) -> Iterator[list[GroupMember]]:
    """A group that runs; the first member is the primary."""
    group, seeds = str(uuid4()), [free_port() for _ in range(size)]
    with contextlib.ExitStack() as stack:
        members = []
        for index, port in enumerate(seeds):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"ctl-group-{index + 1}-")))
            member = GroupMember(
                folder, number=index + 1, group=group, group_port=port, seeds=seeds, port=free_port(), durable=True
            )
            members.append(member)
            stack.callback(member.kill)
            member.install()
            member.start()
            member.join(first=index == 0)
        yield members
