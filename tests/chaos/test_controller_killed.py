"""A controller is killed, over and over, while workers register with it: what it acknowledged is kept (rule 9)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from random import Random
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.controllers import DATABASE, Controller, controllers
from tests.chaos.ledger import Fate, Ledger
from tests.chaos.load import Load, keep_registering
from tests.chaos.wire import listed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.conftest import Figures
    from tests.support.database_server import DatabaseServer

CYCLES = 200
SIDE_BY_SIDE = 3
"""So many controllers share the database, each killed in cycles of its own: one starts while another works."""
WORKERS = 4
"""Register at the same time with one controller."""
LONGEST_LIFE_SECS = 0.25


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_when_a_controller_is_killed(
    durable_server: DatabaseServer, tmp_path: Path, figures: Figures
) -> None:
    ledger = Ledger()
    durable_server.create(DATABASE)
    shares = [len(range(side, CYCLES, SIDE_BY_SIDE)) for side in range(SIDE_BY_SIDE)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as sides:
        running = [
            sides.submit(kill_in_cycles, Controller(tmp_path, f"killed-{side}", [durable_server]), share, ledger)
            for side, share in enumerate(shares)
        ]
        busy = sum(each.result() for each in running)
    assert busy == CYCLES

    lost = ledger.lost(durable_server, DATABASE)
    with controllers(tmp_path, [durable_server], 1) as (reader,):
        seen = {each["model_name"] for each in listed(reader.url).values()}
    unseen = [name for name, fates in ledger.fates.items() if fates == {Fate.REGISTERED} and name not in seen]
    figures.summary(
        f"{durable_server.product}: controller killed (-9) under registers",
        cycles=CYCLES,
        acknowledged=ledger.acknowledged,
        lost=len(lost) + len(unseen),
        unanswered=sum(len(fates) > 1 for fates in ledger.fates.values()),
    )
    assert not lost, lost[:20]
    assert not unseen, unseen[:20]


def kill_in_cycles(controller: Controller, cycles: int, ledger: Ledger) -> int:
    """How many of the cycles had acknowledged something before the kill, which is all, or it fails."""
    random = Random(controller.name)
    for cycle in range(cycles):
        own = Ledger(fates=ledger.fates, failures=ledger.failures)
        try:
            controller.start()
            with Load() as load:
                for worker in range(WORKERS):
                    load.run(keep_registering, controller.url, f"{controller.name}-{cycle}-{worker}", own)
                deadline = monotonic() + 10
                while not own.acknowledged:
                    load.check()
                    assert monotonic() < deadline, own.failures[-5:]
                    sleep(0.001)
                sleep(random.uniform(0, LONGEST_LIFE_SECS))
                controller.kill()
        finally:
            controller.kill()
        ledger.pauses.extend(own.pauses)
    return cycles
