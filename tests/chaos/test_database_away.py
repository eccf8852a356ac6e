"""The only database is away for a while, stopped or frozen, under load (rules 8 and 10)."""

from __future__ import annotations

from statistics import quantiles
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from tests.chaos.cluster import DYING, OPTIONS, TIMEOUT_SECS, Cluster
from tests.chaos.controllers import DATABASE, controllers
from tests.chaos.load import Load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.conftest import Figures
    from tests.support.database_server import DatabaseServer

CLIENT_PATIENCE_SECS = 5.0
"""DB-GPT's client gives up then."""
SETTLED_SECS = 5.0
"""So long after the outage began everybody knows of it, and beats are refused at once."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("how", "seconds"), [("stopped", 30.0), ("frozen", 15.0)])
def test_the_database_goes_away_and_comes_back(
    durable_server: DatabaseServer, tmp_path: Path, figures: Figures, how: str, seconds: float
) -> None:
    """Longer than the heartbeat timeout, so that everybody would be expired."""
    server = durable_server
    with controllers(tmp_path, [server], 2, *OPTIONS) as pair, Load() as load:
        cluster = Cluster(pair, load)
        cluster.begin()
        cluster.last_words()

        away_at = monotonic()
        server.stop() if how == "stopped" else server.freeze()
        sleep(SETTLED_SECS)
        settled = {each.instance.port: len(each.refusals) for each in cluster.workers}
        sleep(seconds - (monotonic() - away_at))
        refused = [reply for each in cluster.workers for reply in each.refusals[settled[each.instance.port] :]]
        stale = sum(each.stale for each in cluster.watchers)
        back_at = monotonic()
        server.start() if how == "stopped" else server.resume()
        answering_at = monotonic()

        cluster.until_all_beat_again()
        recovered = monotonic() - answering_at
        held = sum(each.held for each in cluster.watchers)
        assert all(DYING in each.ports for each in cluster.watchers), "it may yet beat: the database was away"
        sleep(max(0.0, TIMEOUT_SECS - (monotonic() - answering_at)))
        cluster.until("end of who died", lambda: all(DYING not in each.ports for each in cluster.watchers))
        died = monotonic() - answering_at
        well = cluster.until_well()
        sleep(1)

    refusals = [reply for each in cluster.workers for reply in each.refusals]
    registers = [each.seconds for each in cluster.ledger.failures]
    lost = cluster.ledger.lost(server, DATABASE)
    unstored = cluster.unstored_beats(server)
    figures.summary(
        f"{server.product}: database {how} for {seconds:.0f} s",
        acknowledged=cluster.acknowledged,
        lost=len(lost) + len(unstored),
        failed_lists=len(cluster.failed_lists),
        stale_lists=stale,
        longest_list_secs=max(each.longest for each in cluster.watchers),
        refused_beats=len(refusals),
        usual_refusal_secs=quantiles([each.seconds for each in refused], n=20)[-1],
        longest_refusal_secs=max(each.seconds for each in refusals),
        longest_register_secs=max(registers),
        recovered_after_secs=recovered,
        wrong_lists=len(cluster.wrong_lists),
    )
    assert not cluster.failed_lists, cluster.failed_lists[:5]
    assert not cluster.wrong_lists, cluster.wrong_lists[:5]
    assert not lost, lost[:20]
    assert not unstored, unstored
    assert stale > 0
    assert held > 0
    assert died < TIMEOUT_SECS + 5
    assert well < 5
    assert recovered < 5, f"{recovered:.1f} s, of {monotonic() - back_at:.1f} s since the return"
    assert refused
    assert all(each.status == 503 for each in refused), [str(each) for each in refused if each.status != 503][:5]
    assert all(each.headers and each.headers["Retry-After"] for each in refused)
    assert max(each.seconds for each in refused) < 1
    assert max(each.seconds for each in refusals) < CLIENT_PATIENCE_SECS
    assert max(each.longest for each in cluster.watchers) < CLIENT_PATIENCE_SECS
    assert 3.5 < max(registers) < CLIENT_PATIENCE_SECS, "a register waits for the database, but not for ever"
