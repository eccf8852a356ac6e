"""What is collected: the order of probes, and clocks that differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import httpx

from dbgpt_ctl.cli.diagnosis.collect import collect, endpoints_of, to_ping
from dbgpt_ctl.cli.framework.session import Session
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.diagnosis.facts import Endpoint
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ClientSettings
from tests.cli.clusters import stock_controller
from tests.diagnosis.observed import NOW, UNHEALTHY, cluster, controller, drained, known, of
from tests.support.clock import ManualClock
from tests.support.fake_controller import listed
from tests.support.server import running_controller

if TYPE_CHECKING:
    from dbgpt_ctl.clock import Clock
    from tests.cli.clusters import Cluster


def test_an_endpoint_is_probed_once_the_healthy_first_and_all_models_early() -> None:
    facts = of(
        *(known("a@llm", port=port) for port in (1, 2, 3)),
        known("b@llm", port=9),
        known("b@llm", port=1),
        known("c@llm", port=4, state=UNHEALTHY),
    )
    assert [endpoint.port for endpoint in endpoints_of(facts)] == [1, 2, 9, 3, 4]


def test_the_loopback_of_another_machine_is_not_probed_here() -> None:
    assert endpoints_of(of(known(host="127.0.0.1"), known(host="0.0.0.0"))) == []
    here = cluster(controller(known(host="127.0.0.1"), url="http://127.0.0.1:8000"))
    assert endpoints_of(here) == [Endpoint("127.0.0.1", 8001)]


def test_routable_instances_are_pinged_and_a_process_not_twice() -> None:
    facts = of(
        known("a@llm", port=1),
        known("WorkerManager@service", port=1),
        known("WorkerManager@service", port=2),
        known("a@llm", port=3, state=UNHEALTHY),
        drained("a@llm", port=4),
        known("b@text2vec", port=1),
    )
    keys = [(key.model_name, key.port) for key in to_ping(facts, endpoints_of(facts))]
    assert keys == [("a@llm", 1), ("b@text2vec", 1), ("WorkerManager@service", 2)]


def test_it_is_known_from_where_a_loopback_host_was_registered() -> None:
    """The newest register counts. An operator may register from anywhere."""
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    callers = {1: ["10.0.0.7"], 2: ["127.0.0.1"], 3: ["10.0.0.7", "127.0.0.1"], 4: ["10.0.0.7"]}
    with running_controller(registry, trusted_proxies="127.0.0.1") as url:
        for port, sources in callers.items():
            fields = {"model_name": "a@llm", "host": "10.0.0.4" if port == 4 else "127.0.0.1", "port": port}
            for source in sources:
                headers = {"X-Forwarded-For": source}
                assert httpx.post(f"{url}/api/controller/models", json=fields, headers=headers, trust_env=False).json()
                if source != sources[-1]:
                    httpx.delete(f"{url}/api/controller/models", params=fields, headers=headers, trust_env=False)
        facts = collect(session(url, clock=SystemClock()), ModelFilter(), probe=False)
    assert facts.registered_from == {InstanceKey("a@llm", "127.0.0.1", 1): "10.0.0.7"}


class TickingClock(ManualClock):
    """Two seconds later at every look."""

    def now(self) -> datetime:
        return self.advance(2)


def session(*urls: str, clock: Clock) -> Session:
    return Session(ClientSettings(address=",".join(urls)), env_file="", clock=clock)


def test_the_clock_of_a_controller_against_ours() -> None:
    with stock_controller([listed("qwen@llm")]) as stock:
        stock.date = format_datetime(NOW + timedelta(seconds=90), usegmt=True)
        facts = collect(session(stock.url, clock=ManualClock(NOW)), ModelFilter(), probe=False)
    [controller] = facts.controllers
    assert controller.is_stock
    assert controller.skew == timedelta(seconds=90)


def test_clocks_are_compared_at_the_middle_of_the_call() -> None:
    with stock_controller([]) as stock:
        stock.date = format_datetime(NOW + timedelta(seconds=4), usegmt=True)
        [controller] = collect(session(stock.url, clock=TickingClock(NOW)), ModelFilter(), probe=False).controllers
    assert controller.skew == timedelta()


def test_of_one_model_only_its_instances_are_listed(there: Cluster) -> None:
    there.register("qwen@llm")
    there.register("glm@llm")
    facts = collect(session(there.url, clock=there.clock), ModelFilter.parse("qwen", None), probe=False)
    assert [instance.key.model_name for instance in facts.instances] == ["qwen@llm"]
    assert len(facts.controllers[0].instances) == 1
    assert facts.models == {"qwen@llm", "glm@llm"}


def test_what_expired_within_a_day_is_counted() -> None:
    """An instance that expired often long ago is steady now."""
    clock = ManualClock(datetime.now(UTC) - timedelta(days=2))
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(seconds=60))
    with running_controller(registry) as url, ControllerClient(url) as client:
        sent = parse_registration({"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001})
        client.register(sent)

        def expiries(times: int) -> int:
            for _ in range(times):
                clock.advance(61)
                client.heartbeat(sent)
            [instance] = collect(session(url, clock=clock), ModelFilter(), probe=False).instances
            assert instance.flaps >= times
            return instance.expiries

        assert expiries(4) == 0
        clock.advance(timedelta(days=2).total_seconds())  # it expires once more, a minute after its last heartbeat
        assert expiries(3) == 2
