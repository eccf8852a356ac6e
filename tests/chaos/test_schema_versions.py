"""A release with a newer schema is rolled out and taken back, one controller at a time, under load.

The older release is this checkout, and the newer one imitates a release that adds to the tables. With RELEASE_BEFORE,
the command of a real older release, that is the older one and this checkout is the newer one: see docs/releasing.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.registry.database.tables.schema import SCHEMA_VERSION
from tests.chaos.cluster import MODEL, OPTIONS, Cluster
from tests.chaos.controllers import DATABASE, controllers
from tests.chaos.load import Load
from tests.support.next_release import NEXT_RELEASE
from tests.support.process import CTL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.chaos.conftest import Figures
    from tests.chaos.controllers import Controller
    from tests.support.mariadb import MariaDBServer

GRACE = ("--shutdown-grace-secs", "1")
LEAVING_SECS = 30.0
REAL = os.environ.get("RELEASE_BEFORE")
OLDER, NEWER = ([REAL], CTL) if REAL else (CTL, NEXT_RELEASE)
ENVIRON = {"PYTHONPATH": ""} if REAL else {}
"""A release that is installed must not import this checkout."""
STEPS: Sequence[tuple[int, Sequence[str]]] = (
    (1, NEWER),
    # In the middle of the roll each release is restarted beside the other one.
    (0, OLDER),
    (1, NEWER),
    (0, NEWER),
    # It is taken back; the tables stay as they are.
    (0, OLDER),
    (1, NEWER),
    (0, OLDER),
    (1, OLDER),
    (0, OLDER),
)
"""Which controller is restarted, as which release."""


@pytest.mark.timeout(300)
def test_two_releases_share_a_database(durable_mariadb: MariaDBServer, tmp_path: Path, figures: Figures) -> None:
    both = dict.fromkeys(range(2), ENVIRON)
    started = controllers(tmp_path, [durable_mariadb], 2, *OPTIONS, *GRACE, environs=both, program=OLDER)
    with started as pair, Load() as load:
        cluster = Cluster(pair, load, watchers_fail_over=True)
        cluster.begin()
        ((before, readable_by),) = schema(durable_mariadb)
        for number, release in STEPS:
            restart(pair[number], release)
            ((version, still_readable_by),) = schema(durable_mariadb)
            assert still_readable_by == readable_by
            assert version == (SCHEMA_VERSION if REAL else SCHEMA_VERSION + 1)
            cluster.until_all_beat_again()
        cluster.until_well()
        load.end()
    lost = cluster.ledger.lost(durable_mariadb, DATABASE) + cluster.unstored_beats(durable_mariadb)
    expired = durable_mariadb.execute(
        f"SELECT port FROM ctl_event WHERE model_name = '{MODEL}' AND verb = 'expire'", DATABASE
    )
    figures.summary(
        "a newer schema rolled out and taken back, 2 controllers",
        restarts=len(STEPS),
        acknowledged=cluster.acknowledged,
        lost=len(lost),
        failed_lists=len(cluster.failed_lists),
        wrong_lists=len(cluster.wrong_lists),
    )
    assert not lost, lost[:20]
    assert not cluster.failed_lists, cluster.failed_lists[:20]
    assert not cluster.wrong_lists, cluster.wrong_lists[:20]
    assert len(expired) == 1  # the worker that sends no heartbeats
    if not REAL:
        assert before == SCHEMA_VERSION
        rows = durable_mariadb.execute("SELECT DISTINCT region, shard FROM ctl_instance", DATABASE)
        assert rows == [(None, 7)]


def restart(controller: Controller, release: Sequence[str]) -> None:
    controller.leave(LEAVING_SECS)
    controller.program = release
    controller.start()


def schema(server: MariaDBServer) -> list[tuple[object, ...]]:
    """The version of the tables, and the lowest one whose release can use them."""
    return server.execute("SELECT version, readable_by FROM ctl_schema", DATABASE)
