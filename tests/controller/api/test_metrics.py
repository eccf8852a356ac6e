"""/metrics over HTTP, read with Prometheus' own parsers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import Request
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dbgpt_ctl import __version__
from dbgpt_ctl.controller.api import metrics as endpoint
from dbgpt_ctl.controller.api.metrics import MetricsEndpoint
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.auth.long_answers import LongAnswers
from dbgpt_ctl.controller.metrics import instance_counts
from dbgpt_ctl.controller.metrics.counters import Counters
from dbgpt_ctl.controller.metrics.declarations import METRICS, PREFIX, STATES, MetricKind
from dbgpt_ctl.controller.service import large_lists
from dbgpt_ctl.controller.service.large_lists import LargeLists
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.ports import free_port
from tests.support.process import CTL, TIMEOUT_SECS, environment
from tests.support.server import running_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fastapi import FastAPI

    from tests.support.clock import ManualClock

KEY: dict[str, Any] = {"model_name": "qwen@llm", "host": "127.0.0.1", "port": 8001}
ALLOWED = LongAnswers(lambda _scope: None, lambda _scopes: None)
MODELS, HEARTBEAT = "/api/controller/models", "/api/controller/heartbeat"
Series = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts again and again, and makes each scrape anew."""
    monkeypatch.setattr(instance_counts, "EVERY_SECS", 0.01)
    monkeypatch.setattr(instance_counts, "REST_FACTOR", 0)
    monkeypatch.setattr(endpoint, "SHARED_SECS", 0.0)


def application(clock: ManualClock, **settings: Any) -> FastAPI:
    counters = Counters()
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, observer=counters.storage)
    return create_app(ControllerSettings(**settings), registry, None, counters)


@contextmanager
def serving(clock: ManualClock) -> Iterator[httpx.Client]:
    with running_app(application(clock)) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def series(client: httpx.Client) -> Mapping[Series, float]:
    """One scrape: the value of each series, by its name without the prefix and its labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in parse_text(answer.text)
        for sample in family.samples
    }


def value(client: httpx.Client, name: str, **labels: str) -> float | None:
    return series(client).get((name, frozenset(labels.items())))


def wait_for(client: httpx.Client, expected: float | None, name: str, **labels: str) -> None:
    deadline = time.monotonic() + TIMEOUT_SECS
    while (found := value(client, name, **labels)) != expected:
        assert time.monotonic() < deadline, f"{name}{labels} is {found}"


def test_instances_are_counted_by_model_and_state_with_zeros(clock: ManualClock) -> None:
    with serving(clock) as client:
        client.post(MODELS, json=KEY)
        wait_for(client, 1, "instances_routable", model_name="qwen@llm")
        found = series(client)
        states = {
            state: found["instances", frozenset({("model_name", "qwen@llm"), ("state", state)})] for state in STATES
        }
        assert states == {"healthy": 1, "unhealthy": 0, "deregistered": 0}
        client.post("/api/v1/drain", json=KEY, headers={"X-Ctl-Actor": "operator"})
        wait_for(client, 1, "instances_drained", model_name="qwen@llm")
        wait_for(client, 0, "instances_routable", model_name="qwen@llm")
        wait_for(client, clock.now().timestamp(), "oldest_drain_timestamp_seconds", model_name="qwen@llm")
        client.delete(MODELS, params=KEY)
        wait_for(client, 1, "instances", model_name="qwen@llm", state="deregistered")
        client.delete(MODELS, params={**KEY, "remove_from_registry": "true"})
        wait_for(client, None, "instances", model_name="qwen@llm", state="deregistered")


def test_each_answer_is_counted_by_verb_and_status(clock: ManualClock) -> None:
    with serving(clock) as client:
        for _ in range(3):
            client.post(HEARTBEAT, json=KEY)
        client.post(HEARTBEAT, json={})
        client.get(MODELS)
        client.get("/api/v1/instances")
        client.get("/nothing")
        client.get("/openapi.json")
        client.post(HEARTBEAT, json=KEY, headers={"Origin": "http://elsewhere.example"})
        client.get(MODELS, headers={"Host": "elsewhere.example"})
        found = series(client)
    counted = {
        tuple(dict(labels).values()): number for (name, labels), number in found.items() if name == "requests_total"
    }
    assert {frozenset(labels): number for labels, number in counted.items()} == {
        frozenset({"heartbeat", "200"}): 3,
        frozenset({"heartbeat", "422"}): 1,
        frozenset({"heartbeat", "403"}): 1,
        frozenset({"list", "200"}): 2,
        frozenset({"list", "421"}): 1,
        frozenset({"other", "404"}): 1,
        frozenset({"other", "200"}): 1,
    }
    assert found["request_duration_seconds_count", frozenset({("operation", "heartbeat")})] == 5


def test_changes_are_counted_by_the_controller_that_wrote_them(clock: ManualClock) -> None:
    with serving(clock) as client:
        client.post(MODELS, json=KEY)
        client.delete(MODELS, params=KEY)
        assert client.post(HEARTBEAT, json=KEY).json() is False
        assert value(client, "transitions_total", model_name="qwen@llm", to="healthy", cause="register") == 1
        assert value(client, "transitions_total", model_name="qwen@llm", to="deregistered", cause="deregister") == 1
        assert value(client, "heartbeats_refused_total") == 1


def test_both_formats_hold_each_metric_that_is_declared_with_its_type_and_help(clock: ManualClock) -> None:
    with serving(clock) as client:
        client.post(MODELS, json=KEY)
        wait_for(client, 1, "instances_routable", model_name="qwen@llm")
        plain = client.get("/metrics", headers={"Accept-Encoding": "identity"})
        accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        openmetrics = client.get("/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert openmetrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (plain.headers.get("content-encoding"), openmetrics.headers["content-encoding"]) == (None, "gzip")
    assert openmetrics.text.endswith("# EOF\n")
    families = [*parse_text(plain.text)], [*parse_openmetrics(openmetrics.text)]  # type: ignore[no-untyped-call]
    of_a_server = {"connections", "connections_limit", "connections_closed_total"}  # the server of this test has none
    declared = {
        (metric.full_name.removesuffix("_total"), metric.kind.value, metric.help)
        for metric in METRICS
        if metric.name
        not in of_a_server | {"clock_offset_seconds", "event_loop_lag_seconds", "trace_spans_dropped_total"}
    }
    for found in families:
        own = {(family.name, family.type, family.documentation) for family in found if family.name.startswith(PREFIX)}
        assert declared - own == set()
        assert {name for name, _, _ in own} <= {metric.full_name.removesuffix("_total") for metric in METRICS}
        assert any(family.name == "process_resident_memory_bytes" for family in found)


def test_labels_have_only_declared_names_and_values(clock: ManualClock) -> None:
    with serving(clock) as client:
        client.post(MODELS, json=KEY)
        wait_for(client, 1, "instances_routable", model_name="qwen@llm")
        found = [*parse_text(client.get("/metrics").text)]
    by_name = {metric.full_name: metric for metric in METRICS}
    for family in found:
        for sample in family.samples:
            metric = by_name.get(family.name) or by_name.get(f"{family.name}_total")
            if metric is not None:
                labels = {
                    name: text
                    for name, text in sample.labels.items()
                    if name != "le" or metric.kind is not MetricKind.HISTOGRAM
                }
                assert labels.keys() == set(metric.labels)
                for name, text in labels.items():
                    assert text in metric.values.get(name, (text,)), f"{family.name}: {name}={text}"


@pytest.mark.parametrize("name", ['a"b\\c@llm', "{model_name=}@llm", "模型@llm", "\U0001f600@llm"])
def test_a_name_with_any_characters_is_one_series(clock: ManualClock, name: str) -> None:
    with serving(clock) as client:
        assert client.post(MODELS, json={**KEY, "model_name": name}).status_code == 200
        wait_for(client, 1, "instances_routable", model_name=name)


def test_scrapers_that_come_together_share_an_answer(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "SHARED_SECS", 3600.0)
    with serving(clock) as client:
        first = client.get("/metrics").text
        client.post(HEARTBEAT, json=KEY)
        assert client.get("/metrics").text == first
        openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
        assert f'{PREFIX}requests_total{{code="200",operation="heartbeat"}} 1.0' in openmetrics


@pytest.mark.anyio
async def test_a_scraper_that_stalls_is_dropped_before_readers_hold_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_lists, "MAX_HELD_BYTES", 100)
    monkeypatch.setattr(large_lists, "SLOW_SECS", 0.0)
    dropped: list[object] = []
    lists = LargeLists(lambda client: dropped.append(client) or True, ALLOWED)  # type: ignore[func-returns-value]
    reader: Any = SimpleNamespace(read=list)
    metrics = MetricsEndpoint(reader, lists)
    stalled = asyncio.Event()

    async def scrape(client: str, *, stalls: bool) -> None:
        async def send(message: Any) -> None:
            if stalls and message["type"] == "http.response.body":
                stalled.set()
                await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "headers": [], "client": client}
        response = await metrics.metrics(Request(scope))
        await response(scope, None, send)  # type: ignore[arg-type]

    slow = asyncio.create_task(scrape("slow", stalls=True))
    await stalled.wait()
    assert lists.held_bytes > large_lists.MAX_HELD_BYTES
    await scrape("next", stalls=False)
    assert (dropped, lists.held_bytes) == (["slow"], 0)
    slow.cancel()


def test_what_runs_here_is_in_the_labels_of_one_series(clock: ManualClock) -> None:
    with serving(clock) as client:
        assert value(client, "build_info", version=__version__, registry="embedded") == 1


def test_a_controller_imports_the_library_at_the_first_scrape(tmp_path: Path) -> None:
    """It costs 60 ms: a restart does not wait for it, and neither does a controller that nobody scrapes."""
    port, log = free_port(), tmp_path / "log"
    argv = [sys.executable, "-X", "importtime", *CTL[1:], "serve", "--port", str(port)]
    with log.open("w") as stderr, subprocess.Popen(argv, env=environment({}), stderr=stderr) as process:
        try:
            wait_in(log, "listening on http", process)
            assert "prometheus_client" not in log.read_text()
            assert httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).status_code == 200
            wait_in(log, "prometheus_client", process)
        finally:
            process.kill()


def wait_in(log: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECS
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
