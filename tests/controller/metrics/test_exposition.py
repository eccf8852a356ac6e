"""A body that is made in parts is what prometheus_client makes in one go."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from prometheus_client import exposition as text
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import CollectorRegistry

from dbgpt_ctl.controller.metrics.counters import Distribution, Reading
from dbgpt_ctl.controller.metrics.declarations import (
    BATCH_SIZE,
    INSTANCES_ROUTABLE,
    REGISTRY_ERRORS,
    REQUEST_DURATION,
    TRANSITIONS,
)
from dbgpt_ctl.controller.metrics.exposition import SERIES_IN_PART, parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

MANY = 2 * SERIES_IN_PART + 1
MODELS = [f'm{number}\\"\n#@llm' for number in range(MANY)]
"""Nothing in a name may be taken for the head of a metric, nor end a line."""


def _readings() -> list[Reading]:
    counts = (1, *(0 for _ in REQUEST_DURATION.buckets[1:]), 2)
    return [
        Reading(INSTANCES_ROUTABLE, (((model,), number) for number, model in enumerate(MODELS))),
        Reading(TRANSITIONS, [((model, "healthy", "register"), 1) for model in MODELS[:SERIES_IN_PART]]),
        Reading(REGISTRY_ERRORS, []),
        Reading(REQUEST_DURATION, [(("list",), Distribution(counts, 0.5))]),
    ]


class _Whole(CollectorRegistry):
    def collect(self) -> Iterator[Metric]:
        routable = GaugeMetricFamily(INSTANCES_ROUTABLE.full_name, INSTANCES_ROUTABLE.help, labels=["model_name"])
        for number, model in enumerate(MODELS):
            routable.add_metric([model], number)
        transitions = CounterMetricFamily(TRANSITIONS.full_name, TRANSITIONS.help, labels=TRANSITIONS.labels)
        for model in MODELS[:SERIES_IN_PART]:
            transitions.add_metric([model, "healthy", "register"], 1)
        errors = CounterMetricFamily(REGISTRY_ERRORS.full_name, REGISTRY_ERRORS.help, labels=REGISTRY_ERRORS.labels)
        durations = HistogramMetricFamily(REQUEST_DURATION.full_name, REQUEST_DURATION.help, labels=["operation"])
        durations.add_metric(["list"], [*((f"{bound:g}", 1) for bound in REQUEST_DURATION.buckets), ("+Inf", 3)], 0.5)
        batches = HistogramMetricFamily(BATCH_SIZE.full_name, BATCH_SIZE.help)
        yield from (routable, transitions, errors, durations, batches)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("as_openmetrics", [False, True])
def test_the_parts_are_the_whole(as_openmetrics: bool, compressed: bool) -> None:
    process = HistogramMetricFamily(BATCH_SIZE.full_name, BATCH_SIZE.help)
    made = list(parts(_readings(), [process], as_openmetrics=as_openmetrics, compressed=compressed))
    assert len(made) > 6
    body = gzip.decompress(b"".join(made)) if compressed else b"".join(made)
    encode = openmetrics.generate_latest if as_openmetrics else text.generate_latest
    assert _without_zeros(body) == _without_zeros(encode(_Whole()))


def _without_zeros(body: bytes) -> list[bytes]:
    """The lines, with bounds of histograms as numbers: `1.0` and `1` are one."""
    return [line.replace(b'.0"}', b'"}').replace(b'.0",', b'",') for line in body.splitlines()]
