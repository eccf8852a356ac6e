"""Nodes of a cluster of databases are killed under load: what was acknowledged is on all others (rule 9)."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.cluster import OPTIONS, Cluster
from tests.chaos.controllers import DATABASE, controllers
from tests.chaos.load import Load
from tests.support.galera import galera_cluster
from tests.support.group_replication import replication_group
from tests.support.mysql_server import missing_programs
from tests.support.streaming_replication import primary_and_standby

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.conftest import Figures

MOST_PAUSE_SECS = 8.0
"""Of a call, from its first try to its acknowledgement."""
MOST_LINES = 4
"""Of the log of one controller that tell which host is left and which one serves."""


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("galera")
def test_each_node_is_killed_in_turn(tmp_path: Path, figures: Figures) -> None:
    lost: dict[str, list[str]] = {}
    rejoined = []
    with galera_cluster(3) as nodes, controllers(tmp_path, nodes, 2, *OPTIONS) as pair, Load() as load:
        cluster = Cluster(pair, load)
        cluster.begin(pace=0.02)
        for victim in nodes:
            sleep(1)
            victim.kill()
            cluster.until_all_beat_again()
            cluster.until_well()
            for node in nodes:
                if node is not victim:
                    lost[f"{node.name} after {victim.name} died"] = cluster.ledger.lost(node, DATABASE)
            victim.rejoin()
            rejoined.append(victim.size)
            lost[f"{victim.name} after it rejoined"] = cluster.ledger.lost(victim, DATABASE)
        sleep(1)
        load.end()
        for node in nodes:
            lost[f"{node.name} at the end"] = cluster.ledger.lost(node, DATABASE) + cluster.unstored_beats(node)
    figures.summary(
        "each of 3 Galera nodes killed (-9)",
        cycles=len(nodes),
        acknowledged=cluster.acknowledged,
        lost=sum(map(len, lost.values())),
        **cluster.disturbances,
    )
    assert not any(lost.values()), {place: names[:5] for place, names in lost.items() if names}
    assert rejoined == [3, 3, 3]
    assert not cluster.failed_lists, cluster.failed_lists[:5]
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert cluster.ledger.longest_pause <= MOST_PAUSE_SECS


@pytest.mark.timeout(240)
@pytest.mark.skipif(missing_programs() is not None, reason=str(missing_programs()))
def test_the_primary_of_a_replication_group_is_killed(tmp_path: Path, figures: Figures) -> None:
    """Nobody can write until the others have elected another primary. The log has no line for each try meanwhile."""
    lost: dict[str, list[str]] = {}
    with replication_group(3) as members, controllers(tmp_path, members, 2, *OPTIONS) as pair, Load() as load:
        cluster = Cluster(pair, load)
        cluster.begin()
        first, *others = members
        first.kill()
        cluster.until_all_beat_again()
        cluster.until_well()
        first.start()
        first.join()
        sleep(1)
        load.end()
        for member in members:
            lost[f"port {member.port}"] = cluster.ledger.lost(member, DATABASE) + cluster.unstored_beats(member)
        moves = [line for each in pair for line in each.log.splitlines() if "database host" in line]
        assert sum(member.is_primary for member in others) == 1
    figures.summary(
        "MySQL: primary of 3 in group replication killed (-9)",
        acknowledged=cluster.acknowledged,
        lost=sum(map(len, lost.values())),
        **cluster.disturbances,
        log_lines=len(moves),
    )
    assert not any(lost.values()), {place: names[:5] for place, names in lost.items() if names}
    assert not cluster.failed_lists, cluster.failed_lists[:5]
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert len(moves) <= MOST_LINES * len(pair), "\n".join(moves)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("postgresql_programs")
def test_the_standby_of_a_killed_primary_is_promoted(tmp_path: Path, figures: Figures) -> None:
    """The standby stands first in the list of hosts, and is passed over as long as it can only be read."""
    with primary_and_standby() as (primary, standby):
        primary.create(DATABASE)
        with controllers(tmp_path, [standby, primary], 2, *OPTIONS) as pair, Load() as load:
            cluster = Cluster(pair, load)
            cluster.begin()
            primary.kill()
            standby.promote()
            cluster.until_all_beat_again()
            cluster.until_well()
            sleep(1)
            load.end()
            lost = cluster.ledger.lost(standby, DATABASE) + cluster.unstored_beats(standby)
            moves = [line for each in pair for line in each.log.splitlines() if "database host" in line]
    figures.summary(
        "PostgreSQL: primary killed (-9), standby promoted",
        acknowledged=cluster.acknowledged,
        lost=len(lost),
        **cluster.disturbances,
        log_lines=len(moves),
    )
    assert not lost, lost[:5]
    assert not cluster.failed_lists, cluster.failed_lists[:5]
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert cluster.ledger.longest_pause <= MOST_PAUSE_SECS
    assert len(moves) <= MOST_LINES * len(pair), "\n".join(moves)
