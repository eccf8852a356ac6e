"""The text of a scrape, made by prometheus_client, whose import takes 60 ms: import this module at the first scrape."""

from __future__ import annotations

import gzip
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from dbgpt_ctl.controller.metrics.counters import Distribution
from dbgpt_ctl.controller.metrics.declarations import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric as Family

    from dbgpt_ctl.controller.metrics.reader import Reading

_FAMILIES = {Kind.GAUGE: GaugeMetricFamily, Kind.COUNTER: CounterMetricFamily, Kind.HISTOGRAM: HistogramMetricFamily}
GZIP_LEVEL = 1


def render(readings: Iterable[Reading], *, as_openmetrics: bool, compressed: bool) -> bytes:
    """The body of the answer: the readings, and the numbers of the process."""
    encode = openmetrics.generate_latest if as_openmetrics else exposition.generate_latest
    body = encode(_Readings(readings))
    return gzip.compress(body, GZIP_LEVEL) if compressed else body


class _Readings(Collector):
    """One scrape as prometheus_client reads it."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Family]:
        """Each metric as a family, and those of the process (process_cpu_seconds_total and its like)."""
        yield from map(_family, self._readings)
        yield from ProcessCollector(registry=None).collect()


def _family(reading: Reading) -> Any:
    metric = reading.metric
    family: Any = _FAMILIES[metric.kind](metric.full_name, metric.help, labels=metric.labels)
    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    for labels, value in reading.values:
        if isinstance(value, Distribution):
            family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.total)
        else:
            family.add_metric(labels, value)
    return family
