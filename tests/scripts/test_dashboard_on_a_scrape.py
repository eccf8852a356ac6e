"""Each query of the dashboard selects series that real controllers expose, in memory and over MariaDB."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from scripts import generate
from tests.support.controller_process import serving
from tests.support.process import ctl
from tests.support.promql import OTHERS, declared, unmatched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    Series = list[tuple[str, Mapping[str, str]]]

SECONDS = 60.0
QUERIES = [
    (panel["title"], target["expr"])
    for panel in json.loads(generate.DASHBOARD.read_text())["panels"]
    for target in panel.get("targets", ())
]
OF_PROMETHEUS = {"up", "ALERTS", "ALERTS_FOR_STATE"}
FAILURES = 'code=~"5.."'
"""No request of this test fails."""
QWEN = {"model_name": "qwen@llm", "host": "127.0.0.1", "port": 8001}
GLM = {"model_name": "glm@llm", "host": "127.0.0.1", "port": 8002}


@pytest.fixture(params=["embedded", "mariadb"])
def controller(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[httpx.Client]:
    """A controller whose instances expire after two seconds, with tokens that expire and are not asked for."""
    tokens = tmp_path / "tokens.toml"
    ctl("token", "create", "workers", "--role", "worker", "--expires", "90d", "--tokens-file", str(tokens))
    flags = ["--heartbeat-timeout-secs", "2", "--auth", "log", "--tokens-file", str(tokens)]
    flags += ["--tracer-file", str(tmp_path / "traces.jsonl")]
    env = {}
    if request.param == "mariadb":
        database = request.getfixturevalue("mariadb")
        server = database.server
        flags += ["--registry", "database", "--registry-db-host", server.host]
        flags += ["--registry-db-port", str(server.port), "--registry-db-user", server.user]
        flags += ["--registry-db-name", database.name]
        env["CONTROLLER_REGISTRY_DB_PASSWORD"] = server.password
    with serving(flags, env) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


def _work(client: httpx.Client) -> None:
    """What a cluster does in a minute: one instance is drained, the other one expires."""
    for instance in (QWEN, GLM):
        client.post("/api/controller/models", json=instance).raise_for_status()
        client.post("/api/controller/heartbeat", json=instance).raise_for_status()
    client.post("/api/v1/drain", json=QWEN).raise_for_status()
    client.get("/api/controller/models").raise_for_status()


def _series(client: httpx.Client, accept: str = "text/plain") -> Series:
    answer = client.get("/metrics", headers={"Accept": accept}).raise_for_status()
    parse: Any = parse_openmetrics if "openmetrics" in answer.headers["content-type"] else parse_text
    return [(sample.name, sample.labels) for family in parse(answer.text) for sample in family.samples]


def _missing(series: Series) -> list[str]:
    """The selectors of all queries that select nothing, but those of Prometheus' own metrics and of failures."""
    return [
        f"{title}: {selector}"
        for title, expr in QUERIES
        for selector in unmatched(expr, series)
        if selector.partition("{")[0] not in OF_PROMETHEUS and FAILURES not in selector
    ]


@pytest.mark.slow
def test_each_query_selects_something(controller: httpx.Client) -> None:
    _work(controller)
    deadline = time.monotonic() + SECONDS
    while missing := _missing(_series(controller)):
        assert time.monotonic() < deadline, missing
        controller.get("/api/controller/models").raise_for_status()
        time.sleep(0.2)
    both = [_series(controller, accept) for accept in ("text/plain", "application/openmetrics-text")]
    assert [_missing(series) for series in both] == [[], []]


@pytest.mark.slow
def test_all_that_is_exposed_is_declared(controller: httpx.Client) -> None:
    _work(controller)
    series = _series(controller)
    processes = ("process_", "dbgpt_controller_")
    assert [name for name, _ in series if not name.startswith(processes)] == []
    for name, labels in series:
        metric = declared(name)
        if metric is None:
            assert name in OTHERS or name.startswith("process_"), name
            continue
        assert set(labels) - {"le"} == set(metric.labels), name
        assert all(value in metric.values.get(label, (value,)) for label, value in labels.items()), (name, labels)


def test_a_query_that_selects_nothing_is_noticed() -> None:
    series: Series = [("dbgpt_controller_instances", {"model_name": "qwen@llm", "state": "healthy"})]
    assert unmatched('max(dbgpt_controller_instances{job="$job",model_name=~"$model",state="healthy"})', series) == []
    assert unmatched('max(dbgpt_controller_instances{state="gone"})', series) != []
    assert unmatched('max(dbgpt_controller_instances{state!="healthy"})', series) != []
    assert unmatched('max(dbgpt_controller_instances{state=~"un.*"})', series) != []
    assert unmatched("max(dbgpt_controller_instances_routable)", series) != []
