"""One database node and one controller are an hour off and in other time zones (rule 7)."""

from __future__ import annotations

import json
from datetime import timedelta
from time import sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.cluster import MODEL, OPTIONS, TIMEOUT_SECS, Cluster
from tests.chaos.controllers import DATABASE, controllers
from tests.chaos.load import Load
from tests.support.faketime import other_clock
from tests.support.galera import galera_cluster
from tests.support.process import ctl

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.conftest import Figures

HOUR = 3600


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("galera", "faketime")
def test_clocks_an_hour_off(tmp_path: Path, figures: Figures) -> None:
    tokyo, new_york = other_clock(HOUR, "Asia/Tokyo"), other_clock(-HOUR, "America/New_York")
    with (
        galera_cluster(3, environs={1: tokyo}) as nodes,
        controllers(tmp_path, nodes, 2, *OPTIONS, environs={1: new_york}) as (right, wrong),
        Load() as load,
    ):
        skew = [node.execute("SELECT UNIX_TIMESTAMP(), @@system_time_zone")[0] for node in nodes]
        print(skew)
        cluster = Cluster([right, wrong], load)
        cluster.begin(pace=0.05)
        sleep(TIMEOUT_SECS)
        for each in (right, wrong):
            print(ctl("models", "list", MODEL, "--address", each.url).out)
        assert not cluster.wrong_lists, cluster.wrong_lists[:5]
        nodes[0].kill()
        t = cluster.until_all_beat_again()
        print(t)
        for each in (right, wrong):
            print(ctl("health", "--address", each.url).out)
            print(ctl("models", "list", MODEL, "--address", each.url).out)
        sleep(1)
        nodes[0].rejoin()
        for i in range(8):
            sleep(3)
            print("after rejoin", i)
            for each in (right, wrong):
                print(ctl("health", "--address", each.url).out)
                print(ctl("models", "list", MODEL, "--address", each.url).out.splitlines()[1])
        assert not cluster.wrong_lists, cluster.wrong_lists[:5]
