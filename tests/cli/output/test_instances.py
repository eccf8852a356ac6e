"""Texts of instances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dbgpt_ctl.client.results import KnownInstance, counted_text
from dbgpt_ctl.client.status import counts_of
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.text.times import age_text, until_text

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (-30, "0s ago"),
        (0, "0s ago"),
        (0.9, "0s ago"),
        (119, "119s ago"),
        (120, "2m ago"),
        (7199, "119m ago"),
        (7200, "2h ago"),
        (200_000, "2d ago"),
    ],
)
def test_ages(seconds: float, age: str) -> None:
    assert age_text(NOW - timedelta(seconds=seconds), NOW) == age


@pytest.mark.parametrize(
    ("left", "shown"), [(7200, "in 2h"), (7199.6, "in 2h"), (90, "in 90s"), (0, "0s ago"), (-300, "5m ago")]
)
def test_the_end_of_a_drain(left: float, shown: str) -> None:
    assert until_text(NOW + timedelta(seconds=left), NOW).endswith(f"Z, {shown}")


def test_unhealthy_instances_that_are_drained_are_counted_apart() -> None:
    drain, unhealthy = DrainFacts(), InstanceState.UNHEALTHY
    instances = [
        KnownInstance("a@llm", "h", 1),
        KnownInstance("a@llm", "h", 2, drain=drain),
        KnownInstance("a@llm", "h", 3, state=unhealthy),
        KnownInstance("a@llm", "h", 4, state=unhealthy, drain=drain),
    ]
    assert counted_text(counts_of(instances)) == "2 healthy (1 drained), 2 unhealthy (1 drained)"
    assert counted_text(counts_of(instances[:1])) == "1 healthy"
    assert counted_text(counts_of([])) == ""
