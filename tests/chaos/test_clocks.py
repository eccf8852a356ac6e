"""One database node and one controller are an hour off and in other time zones (rules 7 and 8).

All controllers use the first node of their list while it is well, and with it one clock. When that node dies, the one
that is an hour ahead is asked: to the registry an hour has passed in which nobody could beat, so states are held for
one timeout. When the first is back, so are all controllers, and the clock is set back by the hour.
"""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.cluster import DEAD, DYING, INTERVAL_SECS, MODEL, OPTIONS, TIMEOUT_SECS, Cluster
from tests.chaos.controllers import DATABASE, controllers
from tests.chaos.load import Load
from tests.chaos.wire import Instance, Wire
from tests.support.faketime import other_clock
from tests.support.galera import galera_cluster
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.chaos.conftest import Figures
    from tests.chaos.controllers import Controller
    from tests.support.galera import GaleraNode

HOUR = 3600
DIED_MEANWHILE, DIED_LATE = 9003, 9004
"""Ports of workers that die by the clock that is an hour ahead: one is expired when that clock goes, one is not yet."""


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("galera", "faketime")
def test_clocks_an_hour_off(tmp_path: Path, figures: Figures) -> None:
    ahead, behind = other_clock(HOUR, "Asia/Tokyo"), other_clock(-HOUR, "America/New_York")
    ages: dict[str, list[str]] = {}
    with (
        galera_cluster(3, environs={1: ahead}) as nodes,
        controllers(tmp_path, nodes, 2, *OPTIONS, environs={1: behind}) as pair,
        Load() as load,
    ):
        right, early = (int(str(node.execute("SELECT UNIX_TIMESTAMP()")[0][0])) for node in nodes[:2])
        assert HOUR - 60 < early - right < HOUR + 60, "the clocks are as this test wants them"
        cluster = Cluster(pair, load)
        cluster.begin()
        cluster.last_words()
        ages["all is well"] = strange_ages(pair)

        nodes[0].kill()
        switched = cluster.until_all_beat_again()
        cluster.until("end of who died", lambda: not any(DYING in each.ports for each in cluster.watchers))
        cluster.until("all controllers at the second node", lambda: all(is_at(each, nodes[1]) for each in pair))
        cluster.until_all_beat_again()
        register(pair[0], DIED_MEANWHILE)
        ages["an hour ahead"] = strange_ages(pair)
        cluster.until_well()
        cluster.until("end of who died", lambda: not any(DIED_MEANWHILE in each.ports for each in cluster.watchers))
        sleep(3 * INTERVAL_SECS)
        for each in cluster.watchers:
            each.unwanted |= {DYING, DIED_MEANWHILE}

        register(pair[0], DIED_LATE)
        nodes[0].rejoin()
        cluster.until("all controllers at the first node", lambda: all(is_at(each, nodes[0]) for each in pair))
        died = cluster.until("end of who died", lambda: not any(DIED_LATE in each.ports for each in cluster.watchers))
        cluster.until_all_beat_again()
        cluster.until_well()
        ages["back again"] = strange_ages(pair)
        sleep(1)
        load.end()
        lost = [loss for node in nodes for loss in cluster.ledger.lost(node, DATABASE)]
    figures.summary(
        "a node 1 h ahead and a controller 1 h behind, each in a time zone of its own",
        acknowledged=cluster.acknowledged,
        lost=len(lost),
        failed_lists=len(cluster.failed_lists),
        wrong_lists=len(cluster.wrong_lists),
        wrong_ages=sum(map(len, ages.values())),
        longest_pause_secs=cluster.ledger.longest_pause,
        switched_after_secs=switched,
    )
    assert not lost, lost[:20]
    assert not cluster.failed_lists, cluster.failed_lists[:5]
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert not any(ages.values()), ages
    assert died < TIMEOUT_SECS + 5, "it is not kept until the clock is there again"


def register(controller: Controller, port: int) -> None:
    with Wire(controller.url) as wire:
        assert wire.register(Instance(MODEL, port)).is_acknowledged


def is_at(controller: Controller, node: GaleraNode) -> bool:
    """Whether it asks that node."""
    moves = [line for line in controller.log.splitlines() if " serves from now on" in line]
    return f":{node.port} serves" in moves[-1]


def strange_ages(pair: Sequence[Controller]) -> list[str]:
    """Lines of `ctl models list` whose age cannot be: a worker that beats has beaten just now, the dead one has not."""
    strange = []
    for each in pair:
        for line in ctl("models", "list", MODEL, "--no-headers", "--address", each.url).lines:
            _, _, _, port, _, age, *_ = line.split()
            is_recent = age.endswith("s") and int(age.removesuffix("s")) <= TIMEOUT_SECS
            if (int(port) < DEAD and not is_recent) or (int(port) == DEAD and is_recent):
                strange.append(f"{each.name}: {line}")
    return strange
