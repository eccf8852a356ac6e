"""A real Prometheus answers each query of the dashboard and of docs/metrics.md, about a controller that it scrapes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from scripts import generate
from tests.support.controller_process import serving, until_healthy
from tests.support.documents import blocks
from tests.support.ports import free_port
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = 60.0
PROGRAM = "prometheus"
JOB = "dbgpt-controller"
INSTANCE = {"model_name": "qwen@llm", "host": "127.0.0.1", "port": 8001}
OF_THE_DASHBOARD = [
    target["expr"]
    for panel in json.loads(generate.DASHBOARD.read_text())["panels"]
    for target in panel.get("targets", ())
]
OF_THE_PAGE = [block.text for block in blocks(ROOT / "docs" / "metrics.md") if block.kind == "promql"]
VALUES = {"$job": JOB, "$model": ".*", "$__rate_interval": "10s"}
CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: {job}
    static_configs:
      - targets: ["{target}"]
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes one controller with one instance each second."""
    if shutil.which(PROGRAM) is None:
        assert not os.environ.get("CI"), f"{PROGRAM} is missing"
        pytest.skip(f"{PROGRAM} is missing: make monitoring")
    with serving(["--heartbeat-timeout-secs", "3600"]) as url:
        httpx.post(f"{url}/api/controller/models", json=INSTANCE, trust_env=False).raise_for_status()
        with scraping(url.removeprefix("http://"), tmp_path_factory.mktemp("prometheus")) as client:
            yield client


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[httpx.Client]:
    """A Prometheus with the data of at least three scrapes."""
    config, url = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    config.write_text(CONFIG.format(job=JOB, target=target))
    argv = [PROGRAM, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={url}"]
    with (folder / "log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            until_healthy(f"http://{url}/-/ready", process)
            with httpx.Client(base_url=f"http://{url}", trust_env=False) as client:
                deadline = time.monotonic() + SECONDS
                while not asked(client, 'count_over_time(dbgpt_controller_instances{state="healthy"}[1m]) >= 3'):
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                    time.sleep(0.1)
                yield client
        finally:
            process.kill()


def asked(client: httpx.Client, expr: str) -> list[Any]:
    """The series of the answer. Fails, with Prometheus' own words, when it cannot be had."""
    for variable, value in VALUES.items():
        expr = expr.replace(variable, value)
    answer = client.get("/api/v1/query", params={"query": expr}).json()
    assert answer["status"] == "success", answer
    series: list[Any] = answer["data"]["result"]
    return series


@pytest.mark.parametrize("expr", [*OF_THE_DASHBOARD, *OF_THE_PAGE])
def test_prometheus_answers(prometheus: httpx.Client, expr: str) -> None:
    asked(prometheus, expr)


def test_the_first_numbers_of_the_dashboard_are_known(prometheus: httpx.Client) -> None:
    numbers = [asked(prometheus, expr) for expr in OF_THE_DASHBOARD[:6]]
    assert [[series["value"][1] for series in result] for result in numbers] == [
        ["0"],
        ["1"],
        ["0"],
        ["0"],
        ["0"],
        ["0"],
    ]


def test_a_query_that_cannot_be_answered_is_noticed(prometheus: httpx.Client) -> None:
    """It parses. Several series on the right match one on the left."""
    with pytest.raises(AssertionError, match="matching"):
        asked(prometheus, "max(dbgpt_controller_leaving) + on () dbgpt_controller_instances")
