"""What the database does to alerts, in a real Prometheus. All times of the rules are a thirtieth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.monitoring.conftest import running_cluster
from tests.support.dbgpt_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.monitoring.conftest import Cluster

pytestmark = pytest.mark.timeout(420)
TIMEOUT_SECS = 12
"""An outage holds states for that long. It has to be longer than `for` of DbgptRegistryHeld, 10 s here."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    options = ("--heartbeat-timeout-secs", str(TIMEOUT_SECS), "--heartbeat-interval-secs", "1")
    with running_cluster(tmp_path_factory.mktemp("cluster"), {"steady@llm": 1}, *options) as running:
        for model_name in ("steady@llm", "silent@llm", "dies-in-the-outage@llm"):
            running.fleet.start(model_name)
        running.all_is_well()
        yield running


def test_the_database_stops_and_comes_back(cluster: Cluster) -> None:
    prometheus = cluster.prometheus
    cluster.fleet.of("silent@llm").stop()
    prometheus.until_fires("DbgptModelWithoutInstances", model_name="silent@llm")

    cluster.database.stop()
    until("no series of instances", lambda: not prometheus.query("dbgpt_controller_instances_routable"))
    cluster.fleet.of("dies-in-the-outage@llm").stop()
    assert "DbgptModelWithoutInstances" in {alert.name for alert in prometheus.firing()}, "keep_firing_for bridges that"
    prometheus.until_fires("DbgptRegistryStale", severity="page")
    prometheus.until_fires("DbgptDatabaseErrors", kind="connection", severity="ticket")
    prometheus.until_ends("DbgptModelWithoutInstances")
    # Nobody knows how many instances there are, so none is said to be missing, and both controllers still serve.
    names = {alert.name for alert in prometheus.firing()}
    assert names >= {"DbgptRegistryStale", "DbgptDatabaseErrors"}
    assert not [name for name in names if name.startswith("DbgptModel") or name.endswith("Down")]

    cluster.database.start()
    prometheus.until_fires("DbgptRegistryHeld", severity="ticket")
    prometheus.until_ends("DbgptRegistryStale")
    prometheus.until_fires("DbgptModelWithoutInstances", model_name="dies-in-the-outage@llm", severity="page")
    for model_name in ("silent@llm", "dies-in-the-outage@llm"):
        cluster.fleet.of(model_name).resume()
    cluster.all_is_well()
