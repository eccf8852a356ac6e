"""docs/capacity.md is computed from the figures, and no scrape has more series than it says."""

from __future__ import annotations

from collections import Counter
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scripts import capacity
from tests.chaos.wire import Instance, Wire
from tests.support.day2 import DEADLINE_SECS, service
from tests.support.process import ctl

if TYPE_CHECKING:
    from pathlib import Path

FIGURES = capacity.FIGURES.read_text()


def test_the_costs_are_those_of_the_page_of_figures() -> None:
    cost = capacity.costs(FIGURES)
    assert (cost.embedded, cost.database) == (91, 150)
    assert 700 <= cost.tls <= 800
    assert cost.megabytes[0][0] == 0
    assert cost.megabytes[-1][0] == capacity.SIZES[-1]


@pytest.mark.parametrize(
    "lost", ["| this controller |", "a heartbeat on a new connection takes about", "1,000 instances"]
)
def test_a_figure_that_is_gone_is_noticed(lost: str) -> None:
    with pytest.raises(ValueError, match="page of figures"):
        capacity.costs(FIGURES.replace(lost, "").replace(" instances ", " "))


def test_a_row_follows_from_the_costs() -> None:
    cost = capacity.Costs(embedded=100, database=200, tls=800, megabytes=[(0, 50, 80), (2000, 70, 120)])
    assert capacity._plan(1000, cost) == "| 1,000 | 50 | below 0.01 | 0.01 | 0.05 | 60 | 100 | 250 |"


def scrape(url: str) -> list[Any]:
    with urlopen(f"{url}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples]


@pytest.mark.slow
def test_a_scrape_has_no_more_series_than_the_page_says(tmp_path: Path) -> None:
    """One model goes through everything; the other one only serves."""
    with service(tmp_path) as one:
        with Wire(one.url) as wire:
            assert wire.register(Instance("glm4@llm")).is_acknowledged
            assert wire.register(Instance("qwen3@llm")).is_acknowledged
            assert wire.heartbeat(Instance("qwen3@llm")).is_acknowledged
        ctl("models", "drain", "qwen3/10.0.0.4:8001", "--force", "-a", one.url)
        ctl("models", "undrain", "qwen3/10.0.0.4:8001", "-a", one.url)
        ctl("models", "drain", "qwen3/10.0.0.4:8001", "-a", one.url, "--force")
        ctl("models", "deregister", "qwen3/10.0.0.4:8001", "-a", one.url)
        samples = scrape(one.url)
        deadline = monotonic() + DEADLINE_SECS
        while not any(sample.name == "dbgpt_controller_instances_routable" for sample in samples):
            assert monotonic() < deadline, samples
            sleep(0.1)
            samples = scrape(one.url)
    models = Counter(sample.labels["model_name"] for sample in samples if "model_name" in sample.labels)
    most = capacity.of_a_model(changes=False)
    assert most - 1 <= models["glm4@llm"] <= most + 1, "the gauges, and the register"
    assert most < models["qwen3@llm"] <= most + capacity.of_a_model(changes=True)
    own = [
        sample
        for sample in samples
        if not {"model_name", "code", "kind"} & set(sample.labels) and sample.name.startswith("dbgpt_controller_")
    ]
    assert 0 < len(own) <= capacity.of_a_controller()
