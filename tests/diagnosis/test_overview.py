"""What `ctl status` and the console warn of, also where only a sample of the instances is held."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.client.status import counts_of
from dbgpt_ctl.diagnosis.facts import ControllerFacts
from dbgpt_ctl.diagnosis.overview import overview, sample
from tests.diagnosis.observed import DEREGISTERED, UNHEALTHY, URL, ago, drained, known, status

if TYPE_CHECKING:
    from dbgpt_ctl.client.results import KnownInstance

LONG = 25 * 3600
BEATING: dict[str, Any] = {"state": DEREGISTERED, "deregistered_at": ago(300), "refused_at": ago(4)}
CONTROLLER = ControllerFacts.of_status(URL, status())


def forgotten(number: int) -> list[KnownInstance]:
    return [drained(port=port, since=LONG) for port in range(1, number + 1)]


@pytest.mark.parametrize("number", [1, 4, 5, 6, 50])
def test_a_sample_finds_the_same_as_all_instances(number: int) -> None:
    """But for the evidence, of which at most `most` pieces are there."""
    both = [drained(port=port, since=LONG, **BEATING) for port in range(100, 100 + number, 3)]
    others = [known(port=200), drained(port=201, since=60), known(port=202, state=DEREGISTERED, deregistered_at=ago(9))]
    instances = (*forgotten(number), *others, *both, known(port=300, **BEATING))
    sampled = sample(CONTROLLER, iter(instances), 5)
    some = overview([replace(CONTROLLER, instances=sampled.instances)], status(), sampled.left_out)
    every = overview([replace(CONTROLLER, instances=instances)], status())
    assert [(each.code, each.summary) for each in some] == [(each.code, each.summary) for each in every]
    assert {each.code for each in every} == {"drained-long", "deregistered-beating"}
    for few, whole in zip(some, every, strict=True):
        assert len(few.evidence) >= min(5, len(whole.evidence))
        assert set(few.evidence) <= set(whole.evidence)
        assert few.more == len(whole.evidence) - len(few.evidence)
    assert len(sampled.instances) <= 10


def test_a_sample_holds_nothing_that_no_rule_speaks_of() -> None:
    assert sample(CONTROLLER, (known(), drained(since=60)), 5) == ((), {})


def test_a_model_whose_instances_all_left_is_no_fault() -> None:
    counts = {
        "left@llm": counts_of([known("left@llm", state=DEREGISTERED)]),
        "silent@llm": counts_of([known("silent@llm", state=UNHEALTHY)]),
    }
    (found,) = overview([ControllerFacts.of_status(URL, status(models=counts))], status(models=counts))
    assert [each.subject for each in found.evidence] == ["silent@llm"]
