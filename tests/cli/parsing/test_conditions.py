"""Conditions, and what is known of instances: a condition is met only if it holds whatever the unknown ones are."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.cli.parsing.conditions import STATES, Condition, StateTally
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.errors import UsageError

DRAIN = DrainFacts(None, None, None, None)
HEALTHY, UNHEALTHY, DEREGISTERED = InstanceState


def one(state: InstanceState = HEALTHY, *, drained: bool = False, held: bool = False) -> KnownInstance:
    return KnownInstance("qwen@llm", "10.0.0.4", 8001, state=state, drain=DRAIN if drained else None, held=held)


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("healthy", True),
        ("healthy>=2", True),
        (" Healthy >= 3 ", False),
        ("healthy=2", True),
        ("healthy==1", False),
        ("healthy<3", True),
        ("healthy<=1", False),
        ("healthy>1", True),
        ("unhealthy", True),
        ("unhealthy=0", False),
        ("drained>=2", True),
        ("deregistered=1", True),
        ("absent", False),
    ],
)
def test_what_a_condition_means(text: str, met: bool) -> None:
    instances = [one(), one(), one(drained=True), one(UNHEALTHY), one(UNHEALTHY, drained=True), one(DEREGISTERED)]
    assert Condition.parse("--for", text).is_met_by(StateTally.of(instances)) is met


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("healthy>=1", True),
        ("healthy>=2", False),
        ("healthy>0", True),
        ("healthy>1", False),
        ("healthy<4", True),
        ("healthy<3", False),
        ("healthy<=3", True),
        ("healthy<=2", False),
        ("healthy=1", False),
        ("healthy=3", False),
        ("unhealthy=0", False),
        ("unhealthy<=3", True),
        ("unhealthy<=2", False),
        ("unhealthy", False),
        ("drained=1", True),
        ("deregistered=0", True),
        ("absent", False),
    ],
)
def test_held_instances_are_unknown(text: str, met: bool) -> None:
    instances = [one(), one(held=True), one(held=True), one(held=True, drained=True)]
    assert Condition.parse("--for", text).is_met_by(StateTally.of(instances)) is met


def test_no_instance_is_absent() -> None:
    assert Condition.parse("--for", "absent").is_met_by(StateTally())
    assert not Condition.parse("--for", "healthy").is_met_by(StateTally())


instances_of_any_kind = st.lists(
    st.builds(one, st.sampled_from(InstanceState), drained=st.booleans())
    | st.builds(one, drained=st.booleans(), held=st.just(True)),
    max_size=7,
)
conditions = st.just("absent") | st.builds(
    "{}{}{}".format,
    st.sampled_from(STATES),
    st.sampled_from([">=", "<=", "==", "=", ">", "<"]),
    st.integers(0, 8),
)


@given(instances_of_any_kind, conditions)
def test_met_means_that_it_holds_for_all_states_of_the_unknown_ones(instances: list[KnownInstance], text: str) -> None:
    """The whole truth: each held instance is either healthy or unhealthy, and then nothing is unknown."""
    condition = Condition.parse("--for", text)
    held = [instance for instance in instances if instance.held]
    known = [instance for instance in instances if not instance.held]
    cases = [
        condition.is_met_by(
            StateTally.of(
                [
                    *known,
                    *(
                        one(state, drained=instance.drain is not None)
                        for state, instance in zip(states, held, strict=True)
                    ),
                ]
            )
        )
        for states in product((HEALTHY, UNHEALTHY), repeat=len(held))
    ]
    tally = StateTally.of(instances)
    assert (condition.is_met_by(tally), condition.may_be_met_by(tally)) == (all(cases), any(cases))


def test_the_counts_of_an_instance_that_is_in_doubt() -> None:
    tally = StateTally.of([one(), one(held=True), one(held=True, drained=True), one(DEREGISTERED)])
    assert str(tally) == "1 healthy, 1 drained, 1 deregistered, 2 unknown"
    assert tally.counts == {"healthy": 1, "unhealthy": 0, "drained": 1, "deregistered": 1, "unknown": 2}
    assert str(StateTally()) == "none"


def test_unhealthy_instances_that_are_drained_are_counted_apart() -> None:
    instances = [one(), one(drained=True), one(UNHEALTHY), one(UNHEALTHY, drained=True)]
    assert str(StateTally.of(instances)) == "1 healthy, 2 unhealthy (1 drained), 2 drained in all"


@pytest.mark.parametrize(
    "text", ["", "ok", "healthy>=", "healthy>=two", "absent>=1", "healthy>=-1", "healthy=>2", ">=2", "unknown=0"]
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(UsageError, match="--for"):
        Condition.parse("--for", text)
