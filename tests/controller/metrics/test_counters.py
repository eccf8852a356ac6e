from __future__ import annotations

from threading import Thread
from typing import Any

import pytest

from dbgpt_ctl.controller.metrics.counters import Histogram, ModelNames, OperationCounts, StorageCounters
from dbgpt_ctl.controller.metrics.declarations import OTHER
from dbgpt_ctl.domain.events import ABSENT, EXPIRED, OPERATOR, WORKER, Cause, Change
from dbgpt_ctl.domain.instance import InstanceKey
from tests.support.clock import START

DRAIN = Cause("drain", OPERATOR)


def change(old: str, new: str, cause: Cause, *, model: str = "m@llm", drained: bool = False) -> Change:
    return Change(START, InstanceKey(model, "127.0.0.1", 8001), old, new, cause, drained)


def test_a_value_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(value)
    assert histogram.read() == ((2, 2, 1), 14.0)


def test_transitions_are_counted_by_model_destination_and_verb() -> None:
    counters = StorageCounters(ModelNames())
    counters.changes_written(
        [change(ABSENT, "healthy", Cause("register", WORKER)), change("healthy", "unhealthy", EXPIRED)]
    )
    counters.changes_written([change("healthy", "healthy", DRAIN, drained=True)] * 2)
    counters.changes_written([change("healthy", "healthy", Cause("undrain", OPERATOR))])
    assert counters.read().transitions == {
        ("m@llm", "healthy", "register"): 1,
        ("m@llm", "unhealthy", "expire"): 1,
        ("m@llm", "drained", "drain"): 2,
        ("m@llm", "undrained", "undrain"): 1,
    }


def test_the_transitions_of_a_model_beyond_the_limit_are_those_of_other() -> None:
    counters = StorageCounters(ModelNames(limit=1))
    counters.changes_written([change(ABSENT, "healthy", EXPIRED, model=model) for model in ("a", "b", "c")])
    assert {(each.model_name, count) for each, count in counters.read().transitions.items()} == {("a", 1), (OTHER, 2)}
    assert counters.keep_names({"b": 1}) == {"b"}
    assert {each.model_name for each in counters.read().transitions} == {OTHER}  # `a` lost its place, and its series


def test_any_thread_may_count() -> None:
    counters, number = StorageCounters(ModelNames()), 2000

    def count() -> None:
        for _ in range(number):
            counters.committed(3, 0.002)
            counters.failed("conflict")

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = counters.read()
    assert counts.errors == {"conflict": 4 * number}
    assert sum(counts.commits.counts) == sum(counts.batches.counts) == 4 * number
    assert counts.batches.total == 3 * 4 * number


@pytest.mark.anyio
async def test_an_answer_counts_once_when_it_begins() -> None:
    counts = OperationCounts()
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    counting = counts.counting(send, 0.0)
    for message in ({"type": "http.response.start", "status": 404}, {"type": "http.response.body"}):
        await counting(message)
    assert counts.statuses == {404: 1}
    assert sum(counts.durations.read().counts) == 1
    assert len(sent) == 2
