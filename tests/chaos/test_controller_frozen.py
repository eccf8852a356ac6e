"""A controller is frozen for longer than the heartbeat timeout and resumes (rule 8)."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.cluster import DYING, MODEL, OPTIONS, TIMEOUT_SECS, Cluster
from tests.chaos.controllers import controllers
from tests.chaos.load import Load, Watcher, Worker
from tests.chaos.wire import Instance, Wire

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Event

    from tests.chaos.conftest import Figures
    from tests.chaos.controllers import Controller
    from tests.support.database_server import DatabaseServer

FROZEN_SECS = 1.3 * TIMEOUT_SECS
LONELY = 9003
"""The port of a worker that knows no other controller."""
SHARED = [Instance(f"shared-{number}@llm") for number in range(8)]
"""Their last calls to the frozen controller never ended; the next ones go to the other."""


@pytest.mark.timeout(180)
def test_one_of_two_controllers_is_frozen(durable_server: DatabaseServer, tmp_path: Path, figures: Figures) -> None:
    """Who beats at the other is never dropped; who knew only the frozen one is back with its next beat."""
    with controllers(tmp_path, [durable_server], 2, *OPTIONS) as (frozen, other), Load() as load:
        lonely = Worker(Instance("lonely@llm", LONELY), [frozen.url], 0.5)
        steady = Cluster([other], load)
        steady.begin()
        load.run(lonely.beat)
        steady.until("beat of the lonely worker", lambda: lonely.beaten_at > 0)

        freeze_in_a_transaction(load, frozen, durable_server)
        with Wire(other.url) as wire:
            shared = [wire.register(each) for each in SHARED]
        seen = Watcher(other.url, lonely.instance.model_name)
        load.run(seen.watch)
        steady.until("lonely worker", lambda: seen.ports == {LONELY})
        sleep(FROZEN_SECS)
        died_alone = seen.ports == set()
        frozen.resume()
        resumed = Watcher(frozen.url, MODEL, wanted=steady.ports)
        load.run(resumed.watch)
        back = steady.until("lonely worker again", lambda: seen.ports == {LONELY})
        sleep(TIMEOUT_SECS / 2)
        assert resumed.lists > 20
    wrong = [*steady.wrong_lists, *resumed.missed]
    refused = [str(each) for each in shared if not each.is_acknowledged]
    figures.summary(
        f"{durable_server.product}: one of two controllers frozen for {FROZEN_SECS:.0f} s",
        acknowledged=steady.acknowledged,
        failed_calls=len(refused) + len(steady.ledger.failures) + sum(len(each.refusals) for each in steady.workers),
        longest_pause_secs=steady.ledger.longest_pause,
        longest_wait_for_its_locks_secs=max(each.seconds for each in shared),
        longest_beat_secs=max(max(each.ledger.pauses) for each in steady.workers),
        wrong_lists=len(wrong),
        failed_lists=len(steady.failed_lists) + len(resumed.failures),
        back_after_secs=back,
    )
    assert died_alone, "the other controller answered all the while: silence was death"
    assert not refused, refused
    assert not wrong, wrong[:5]
    assert not steady.failed_lists
    assert not resumed.failures
    assert back < TIMEOUT_SECS / 2
    assert not [str(reply) for each in steady.workers for reply in each.refusals]


def freeze_in_a_transaction(load: Load, controller: Controller, server: DatabaseServer) -> None:
    """The worst moment: it holds rows that others want to write. Tries until it is that moment."""
    for instance in SHARED:
        load.run(keep_changing, controller.url, instance)
    for _ in range(200):
        controller.freeze()
        sleep(0.15)  # what the other controller does is over by then, and InnoDB's news are a moment old
        before = server.lock_holders()
        sleep(0.15)
        if before & server.lock_holders():
            return
        controller.resume()
        sleep(0.02)
    raise AssertionError("it was never in a transaction")


def keep_changing(stop: Event, url: str, instance: Instance) -> None:
    """A worker that comes and goes: both are judged under a lock."""
    with Wire(url) as wire:
        while not stop.is_set():
            wire.register(instance)
            wire.deregister(instance)


@pytest.mark.timeout(180)
def test_the_only_controller_is_frozen(durable_server: DatabaseServer, tmp_path: Path, figures: Figures) -> None:
    """Nobody could beat: all are held for one timeout. Who beats again stays; who died is gone then, also the last."""
    with controllers(tmp_path, [durable_server], 1, *OPTIONS) as (only,), Load() as load:
        cluster = Cluster([only], load)
        cluster.begin()
        cluster.last_words()
        only.freeze()
        sleep(FROZEN_SECS)
        only.resume()
        recovered = cluster.until_all_beat_again()
        held = cluster.watchers[0].held
        cluster.until("end of who died", lambda: DYING not in cluster.watchers[0].ports, TIMEOUT_SECS + 5)
        sleep(1)
        acknowledged = cluster.acknowledged
        cluster.watchers[0].wanted.clear()
        load.end()
        with Load() as alone:
            last = Watcher(only.url, MODEL)
            alone.run(last.watch)
            died = cluster.until("death of the last", lambda: last.lists > 5 and not last.ports, TIMEOUT_SECS + 5)
    figures.summary(
        f"{durable_server.product}: the only controller frozen for {FROZEN_SECS:.0f} s",
        acknowledged=acknowledged,
        wrong_lists=len(cluster.wrong_lists),
        failed_lists=len(cluster.failed_lists),
        recovered_after_secs=recovered,
        last_death_seen_after_secs=died,
    )
    assert held > 0
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert not cluster.failed_lists, cluster.failed_lists[:5]
    assert died > TIMEOUT_SECS - 3
