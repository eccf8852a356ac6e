"""A real Prometheus and two controllers over MariaDB: each alert fires and ends.

All times of the rules are a thirtieth.
The tests follow one another on one cluster, and each leaves it as it was.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pymysql
import pytest

from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.chaos.controllers import DATABASE
from tests.monitoring.conftest import running_cluster
from tests.support.fleet import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.monitoring.conftest import Cluster
    from tests.monitoring.prometheus import Alert
    from tests.support.fleet import Worker
    from tests.support.mariadb import MariaDBServer

TIMEOUT_SECS = 4
EXPIRING = "old-workers"
pytestmark = pytest.mark.timeout(420)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    options = ("--heartbeat-timeout-secs", str(TIMEOUT_SECS), "--heartbeat-interval-secs", "1", "--max-instances", "30")
    minimum = {"few@llm": 2, "gone@llm": 1, "steady@llm": 2}
    with running_cluster(tmp_path_factory.mktemp("cluster"), minimum, *options) as running:
        for model_name, count in {"steady@llm": 2, "few@llm": 2, "silent@llm": 1, "flapping@llm": 1}.items():
            running.fleet.start(model_name, count)
        running.fleet.start("drained@llm")
        running.fleet.client.register(Registration(key("gone@llm"), check_healthy=False))
        running.all_is_well()
        yield running


def key(model_name: str, port: int = 8001) -> InstanceKey:
    return InstanceKey(model_name, HOST, port)


@contextmanager
def meanwhile(run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs it in a thread, as long as the block lasts. It gets the event that says so."""
    over = threading.Event()
    thread = threading.Thread(target=run, args=(over,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def comes_and_goes(worker: Worker) -> AbstractContextManager[None]:
    """The worker is silent for longer than the timeout, sends heartbeats again, and so on."""

    def run(over: threading.Event) -> None:
        while not over.wait(1):
            worker.stop()
            over.wait(TIMEOUT_SECS + 2)
            worker.resume()

    return meanwhile(run)


def test_models_and_what_was_forgotten(cluster: Cluster) -> None:
    client, prometheus = cluster.fleet.client, cluster.prometheus
    cluster.token("create", EXPIRING, "--role", "worker", "--expires", "1h", "-q")
    client.drain(key("drained@llm"), reason="a new card")
    cluster.database.execute("UPDATE ctl_instance SET drain_since = drain_since - INTERVAL 4 DAY", DATABASE)
    bulk = [key("bulk@llm", 9000 + number) for number in range(22)]
    for each in bulk:
        client.register(Registration(each, check_healthy=False))
    cluster.fleet.of("silent@llm").stop()
    cluster.fleet.of("few@llm", 1).stop()
    client.deregister(key("gone@llm"), remove=True)
    with comes_and_goes(cluster.fleet.of("flapping@llm")):
        fired = [
            prometheus.until_fires("DbgptModelWithoutInstances", model_name="silent@llm", severity="page"),
            prometheus.until_fires("DbgptModelBelowMinimum", model_name="gone@llm", severity="page"),
            prometheus.until_fires("DbgptModelBelowMinimum", model_name="few@llm", severity="ticket"),
            prometheus.until_fires("DbgptCredentialExpires", kind="token", name=EXPIRING, severity="ticket"),
            prometheus.until_fires("DbgptDrainedForDays", model_name="drained@llm", severity="ticket"),
            prometheus.until_fires("DbgptRegistryNearlyFull", severity="ticket"),
            prometheus.until_fires("DbgptModelFlapping", model_name="flapping@llm", severity="ticket"),
        ]
    read_as_a_person(fired)
    assert not [alert for alert in prometheus.firing() if alert.labels.get("model_name") in {"steady@llm", "bulk@llm"}]
    cluster.token("rotate", EXPIRING, "--expires", "90d", "-q")
    client.undrain(key("drained@llm"))
    for each in bulk:
        client.deregister(each, remove=True)
    cluster.fleet.of("silent@llm").resume()
    cluster.fleet.of("few@llm", 1).resume()
    client.register(Registration(key("gone@llm"), check_healthy=False))
    cluster.all_is_well()


def read_as_a_person(fired: list[Alert]) -> None:
    """Nothing of a template is left in a text, and none lacks a word."""
    for alert in fired:
        for text in alert.annotations.values():
            assert "{{" not in text
            assert "<error" not in text
            assert "  " not in text
    texts = {alert.name: alert.annotations for alert in fired}
    assert texts["DbgptCredentialExpires"]["summary"].startswith(f"The token {EXPIRING} expires in ")
    assert texts["DbgptDrainedForDays"]["summary"].startswith("An instance of drained@llm has been drained for 4d 0h")
    assert texts["DbgptRegistryNearlyFull"]["summary"].endswith("% full.")
    assert texts["DbgptModelWithoutInstances"]["command"] == "ctl why -- 'silent@llm'"


def test_a_controller_is_killed_and_comes_back(cluster: Cluster) -> None:
    second = cluster.controllers[1]
    second.kill()
    alert = cluster.prometheus.until_fires("DbgptControllerDown", severity="ticket")
    assert alert.labels["instance"] == f"127.0.0.1:{second.port}"
    assert {one.labels["severity"] for one in cluster.prometheus.firing()} == {"ticket"}, "the other controller serves"
    second.start()
    cluster.all_is_well()


def test_heartbeats_wait_for_the_database(cluster: Cluster) -> None:
    with rows_locked_again_and_again(cluster.database):
        cluster.prometheus.until_fires("DbgptHeartbeatsSlow", severity="ticket")
    cluster.all_is_well()


def rows_locked_again_and_again(server: MariaDBServer) -> AbstractContextManager[None]:
    """Another program locks all instances for 1.5 s, which is less than a controller waits, with short pauses."""

    def run(over: threading.Event) -> None:
        connection = pymysql.connect(
            host=server.host, port=server.port, user=server.user, password=server.password, database=DATABASE
        )
        with connection, connection.cursor() as cursor:
            while not over.wait(0.02):
                cursor.execute("SELECT * FROM ctl_instance FOR UPDATE")
                over.wait(1.5)
                connection.rollback()

    return meanwhile(run)


def test_all_controllers_are_down(cluster: Cluster) -> None:
    for each in cluster.controllers:
        each.kill()
    cluster.prometheus.until_fires("DbgptAllControllersDown", severity="page")
    assert not [alert for alert in cluster.prometheus.firing() if alert.name.startswith("DbgptModel")]
    for each in cluster.controllers:
        each.start()
    cluster.all_is_well()
