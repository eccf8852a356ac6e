"""A metric with its values, as it is read for one scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbgpt_ctl.controller.metrics.counters import Distribution
    from dbgpt_ctl.controller.metrics.declarations import Metric

Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""


class Reading(NamedTuple):
    """A metric with its values. They may be made while they are iterated, from numbers that do not change any more."""

    metric: Metric
    values: Iterable[tuple[Labels, float | Distribution]]
