"""Streaming replication of PostgreSQL on loopback: a primary, and a standby that has each commit before it returns."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.dbgpt_process import until
from tests.support.postgresql_server import PostgreSQLServer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Standby(PostgreSQLServer):
    """It can be read only, until it is the primary."""

    def copy(self, primary: PostgreSQLServer) -> None:
        """Takes over the data of the primary, and follows it once it is started."""
        self.prepare_folder()
        self.environ = {"PGPASSWORD": primary.password}
        source = f"host={primary.host} port={primary.port} user={primary.user}"
        self.run("pg_basebackup", f"--dbname={source}", f"--pgdata={self.data}", "--write-recovery-conf", "--no-sync")

    @property
    def follows(self) -> bool:
        return self.execute("SELECT pg_is_in_recovery()") == [(True,)]

    def promote(self) -> None:
        """Makes it the primary, and returns when it is one."""
        self.execute("SELECT pg_promote()")
        assert not self.follows


@contextlib.contextmanager
def primary_and_standby() -> Iterator[tuple[PostgreSQLServer, Standby]]:
    """Both run, and the data of both are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="ctl-database-") as first,
        tempfile.TemporaryDirectory(prefix="ctl-database-") as second,
    ):
        applied = ("--synchronous_commit=remote_apply",)  # so that a read there sees it, too
        primary = PostgreSQLServer(Path(first), durable=True, options=applied)
        standby = Standby(Path(second), durable=True)
        try:
            primary.install()
            primary.start()
            standby.copy(primary)
            standby.start()
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
            synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            until("the standby has each commit", lambda: primary.execute(synchronous) or None)
            yield primary, standby
        finally:
            standby.kill()
            primary.kill()
