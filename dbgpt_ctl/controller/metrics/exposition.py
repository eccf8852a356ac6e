"""The text of a scrape, made by prometheus_client, whose import takes 60 ms: import this module at the first scrape."""

from __future__ import annotations

import zlib
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import ProcessCollector, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from dbgpt_ctl.controller.metrics.counters import Distribution
from dbgpt_ctl.controller.metrics.declarations import MetricKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client.metrics_core import Metric as Family

    from dbgpt_ctl.controller.metrics.counters import Labels, Reading
    from dbgpt_ctl.controller.metrics.declarations import Metric

    Encode = Callable[[Collector], bytes]

_FAMILIES = {
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}
END = b"# EOF\n"
"""OpenMetrics ends with it, and other text does not have it."""
GZIP_LEVEL = 1
SERIES_IN_PART = 100


def of_process() -> list[Family]:
    """The numbers of the process (process_cpu_seconds_total and its like). It reads files in /proc."""
    return list(ProcessCollector(registry=None).collect())


def parts(
    readings: Iterable[Reading], process: Iterable[Family], *, as_openmetrics: bool, compressed: bool
) -> Iterator[bytes]:
    """The body of the answer: the readings, and `process`. Each part takes a millisecond or less to make."""
    encode = openmetrics.generate_latest if as_openmetrics else exposition.generate_latest
    texts = chain(_texts(readings, encode), [_text(encode, *process)], [END] if as_openmetrics else [])
    return _compressed(texts) if compressed else texts


def _texts(readings: Iterable[Reading], encode: Encode) -> Iterator[bytes]:
    """prometheus_client makes the text of whole metrics only. So it gets the series of a large metric in several steps,
    as if each were a metric, and only the first text keeps its head.
    """
    for metric, values in readings:
        left = iter(values)
        yield _text(encode, _family(metric, islice(left, SERIES_IN_PART)))
        while series := list(islice(left, SERIES_IN_PART)):
            yield _without_head(_text(encode, _family(metric, series)))


def _text(encode: Encode, *families: Family) -> bytes:
    return encode(_Families(families)).removesuffix(END)


def _without_head(text: bytes) -> bytes:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text


def _compressed(texts: Iterable[bytes]) -> Iterator[bytes]:
    gzip = zlib.compressobj(GZIP_LEVEL, wbits=zlib.MAX_WBITS + 16)
    yield from map(gzip.compress, texts)
    yield gzip.flush()


class _Families(Collector):
    """Families as prometheus_client reads them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """As they are."""
        return self._families


def _family(metric: Metric, values: Iterable[tuple[Labels, float | Distribution]]) -> Family:
    family: Any = _FAMILIES[metric.kind](metric.full_name, metric.help, labels=metric.labels)
    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    for labels, value in values:
        if isinstance(value, Distribution):
            family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.total)
        else:
            family.add_metric(labels, value)
    return cast("Family", family)
