"""What a scrape reads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.controller.api.metrics_reader import MetricsReader
from dbgpt_ctl.controller.metrics.counters import Counters
from dbgpt_ctl.controller.metrics.declarations import INSTANCES, REGISTRY_HELD_INSTANCES
from dbgpt_ctl.controller.metrics.instance_counts import MAX_DELAY_SECS, InstanceCounter
from dbgpt_ctl.controller.service.controller import Controller
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.clock import ManualClock


@pytest.mark.anyio
async def test_counts_that_become_too_old_during_a_scrape_are_whole_or_not_there() -> None:
    now, step = 1000.0, 0.0

    def monotonic() -> float:
        nonlocal now
        now += step
        return now

    registry, counters = EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=timedelta(minutes=1)), Counters()
    instances = InstanceCounter(lambda: registry, counters.storage, monotonic=monotonic)
    reader = MetricsReader(Controller(registry, counters=counters), counters, instances, None)
    await instances.count()
    step = 0.4 * MAX_DELAY_SECS  # the third look at the clock finds them too old
    metrics = [reading.metric for reading in reader.read()]
    assert INSTANCES in metrics
    assert REGISTRY_HELD_INSTANCES in metrics
    step = MAX_DELAY_SECS
    assert not {INSTANCES.name, REGISTRY_HELD_INSTANCES.name} & {reading.metric.name for reading in reader.read()}
