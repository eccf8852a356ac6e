"""One database node and one controller are an hour off and in other time zones (rules 7 and 8).

All controllers use the first node of their list while it is well, and with it one clock. When that node dies, the one
that is an hour ahead is asked: to the registry an hour has passed in which nobody could beat, so states are held for
one timeout. When the first is back, so are all controllers, and the clock is set back by the hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from time import sleep
from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.auth.editing import create_token
from dbgpt_ctl.auth.tokens import Role, Token, sha256_of
from tests.chaos.cluster import DEAD, DYING, INTERVAL_SECS, MODEL, OPTIONS, TIMEOUT_SECS, Cluster
from tests.chaos.controllers import DATABASE, controllers
from tests.chaos.load import Load
from tests.chaos.wire import Instance, Wire
from tests.support.dbgpt_process import until
from tests.support.faketime import other_clock
from tests.support.galera import galera_cluster
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.chaos.conftest import Figures
    from tests.chaos.controllers import Controller
    from tests.support.galera import GaleraNode
    from tests.support.mariadb import MariaDBServer

HOUR = 3600
OFFSET = 300
"""Of the clocks of controllers; less than the 10 minutes by which a token may outlive a controller's own clock."""
MODELS = "/api/controller/models"
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
    # libfaketime stops a process for seconds on a loaded machine, so a list of the controller behind may fail.
    assert not cluster.watchers[0].failures, cluster.failed_lists[:5]
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert not any(ages.values()), ages
    assert died < TIMEOUT_SECS + 5, "it is not kept until the clock is there again"


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("faketime")
def test_tokens_and_ages_are_judged_by_the_clock_of_the_database(
    tmp_path: Path, durable_mariadb: MariaDBServer
) -> None:
    """One controller is ahead, and one is behind. An outage of the database changes nothing of that."""
    now, file = datetime.now(UTC), tmp_path / "tokens.toml"
    for name, seconds in (("ends-soon", OFFSET / 2), ("over", -OFFSET / 2)):
        expires = (now + timedelta(seconds=seconds)).replace(microsecond=0)
        create_token(file, Token(name, Role.OPERATOR, (sha256_of(name),), expires=expires))
    environs = {0: other_clock(OFFSET, "Asia/Tokyo"), 1: other_clock(-OFFSET, "America/New_York")}
    options = ("--auth", "enforce", "--tokens-file", str(file))
    with controllers(tmp_path, [durable_mariadb], 2, *options, environs=environs) as pair:
        for each in pair:
            sent = {"model_name": MODEL, "host": "10.0.0.4", "port": each.port}
            assert httpx.post(f"{each.url}{MODELS}", json=sent, auth=("x", "ends-soon")).status_code == 200
            assert listed_with("ends-soon", each).json()  # a list of all becomes the last known list
        judges(pair)
        durable_mariadb.stop()
        until("outage", lambda: all("X-Ctl-Stale-Since" in listed_with("ends-soon", each).headers for each in pair))
        judges(pair)


def judges(pair: Sequence[Controller]) -> None:
    for each, where in zip(pair, ("ahead of", "behind"), strict=True):
        assert [listed_with(token, each).status_code for token in ("ends-soon", "over")] == [200, 401]
        ages = [listed_with("ends-soon", each).headers["X-Ctl-Time"], called(each, "/api/v1/instances").json()["time"]]
        for time in map(datetime.fromisoformat, ages):
            assert abs(time - datetime.now(UTC)) < timedelta(seconds=OFFSET / 2)
        offset = f"this controller's clock is {OFFSET} s {where} its registry's"
        assert f"[-]clock: {offset}" in called(each, "/readyz?verbose").text
        for words in (("doctor", "--no-probe"), ("status",)):
            done = ctl(*words, "-a", each.url, env={"CTL_TOKEN": "x:ends-soon"}, expect=None)
            assert f"{each.url}: {offset}" in done.out


def called(controller: Controller, path: str, token: str = "ends-soon") -> httpx.Response:
    return httpx.get(f"{controller.url}{path}", auth=("x", token))


def listed_with(token: str, controller: Controller) -> httpx.Response:
    return called(controller, MODELS, token)


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
        patient = ("--request-timeout", "30s")  # libfaketime stops a controller for seconds on a loaded machine
        for line in ctl("models", "list", MODEL, "--no-headers", "--address", each.url, *patient).lines:
            _, _, _, port, _, age, *_ = line.split()
            is_recent = age.endswith("s") and int(age.removesuffix("s")) <= TIMEOUT_SECS
            if (int(port) < DEAD and not is_recent) or (int(port) == DEAD and is_recent):
                strange.append(f"{each.name}: {line}")
    return strange
