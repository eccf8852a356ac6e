"""What is told of a change, and the rules of an instance's life that came with drains. No registry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dbgpt_ctl.domain.events import EXPIRED, OPERATOR, WORKER, Actor, ActorKind, Cause, expired, is_overdue, settled
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance, Registration, is_long_gone, state_of
from tests.support.clock import START

TIMEOUT = timedelta(seconds=60)
LATER = START + timedelta(seconds=10)
HEALTHY, UNHEALTHY, DRAINED, DEREGISTERED = InstanceState
BEATING = ModelInstance.first(Registration(InstanceKey("qwen@llm", "10.0.0.4", 8001)), START)
DISABLED = ModelInstance.first(Registration(BEATING.key, enabled=False), START)
SILENT = expired(BEATING, START + TIMEOUT)[0]
LEFT = replace(BEATING.deregistered(LATER, remove=False), announced_state=DEREGISTERED)
TOMBSTONE = replace(BEATING.deregistered(LATER, remove=True), announced_state=DEREGISTERED)
CAUSE = Cause("a verb", WORKER)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(None, BEATING, [("absent", "healthy")], id="new"),
        pytest.param(None, DISABLED, [("absent", "drained")], id="new and disabled"),
        pytest.param(BEATING, BEATING.beaten(LATER), [], id="a beat"),
        pytest.param(BEATING, BEATING.drained(LATER, by=None, reason=None), [("healthy", "drained")], id="drain"),
        pytest.param(DISABLED, DISABLED.undrained(), [("drained", "healthy")], id="undrain"),
        pytest.param(BEATING, LEFT, [("healthy", "deregistered")], id="deregister"),
        pytest.param(LEFT, LEFT.beaten(LATER), [], id="a refused beat"),
        pytest.param(LEFT, LEFT.drained(LATER, by=None, reason=None), [("deregistered", "deregistered")], id="of left"),
        pytest.param(LEFT, TOMBSTONE, [("deregistered", "absent")], id="removal"),
        pytest.param(TOMBSTONE, TOMBSTONE.beaten(LATER), [], id="a beat of a removed one"),
        pytest.param(
            TOMBSTONE, TOMBSTONE.registered(Registration(BEATING.key), LATER), [("absent", "healthy")], id="back"
        ),
        pytest.param(TOMBSTONE, DISABLED, [("absent", "drained")], id="back, and disabled"),
        pytest.param(SILENT, SILENT.beaten(LATER), [("unhealthy", "healthy")], id="a beat after silence"),
        pytest.param(SILENT, None, [("unhealthy", "absent")], id="pruned"),
        pytest.param(TOMBSTONE, None, [], id="a tombstone forgotten"),
        pytest.param(None, None, [], id="nothing"),
    ],
)
def test_what_a_call_tells(
    before: ModelInstance | None, after: ModelInstance | None, told: list[tuple[str, str]]
) -> None:
    state = HEALTHY if after is None else state_of(after, LATER, TIMEOUT)
    announced, changes = settled(before, after, state, LATER, CAUSE)
    assert [(each.old, each.new) for each in changes] == told
    assert all((each.time, each.key, each.cause) == (LATER, BEATING.key, CAUSE) for each in changes)
    if after is None:
        assert announced is None
    else:
        assert announced == replace(after, announced_state=state)


def test_what_changes_nothing_makes_no_new_facts() -> None:
    assert settled(BEATING, BEATING, HEALTHY, LATER, CAUSE)[0] is BEATING


def test_a_drain_of_a_silent_one_is_told() -> None:
    drained = SILENT.drained(LATER, by=None, reason="disk")
    announced, (change,) = settled(SILENT, drained, UNHEALTHY, LATER, Cause("drain", OPERATOR, "disk"))
    assert (change.old, change.new, change.cause.reason) == ("unhealthy", "unhealthy", "disk")
    assert announced == drained


@pytest.mark.parametrize("instance", [BEATING, DISABLED])
def test_an_expiry_is_counted(instance: ModelInstance) -> None:
    at = START + TIMEOUT
    after, change = expired(instance, at)
    assert after == replace(instance, announced_state=UNHEALTHY, flaps=1)
    assert (change.old, change.new) == (instance.announced_state, "unhealthy")
    assert (change.time, change.key, change.cause) == (at, BEATING.key, EXPIRED)


@pytest.mark.parametrize(
    ("instance", "state", "overdue"),
    [
        (BEATING, UNHEALTHY, True),
        (DISABLED, UNHEALTHY, True),
        (BEATING, HEALTHY, False),
        (SILENT, UNHEALTHY, False),
        (LEFT, DEREGISTERED, False),
        (TOMBSTONE, DEREGISTERED, False),
    ],
)
def test_whose_expiry_is_still_to_be_told(instance: ModelInstance, state: InstanceState, *, overdue: bool) -> None:
    assert is_overdue(instance, state) is overdue


def test_an_actor_reads_as_its_kind_and_address() -> None:
    assert str(Actor(ActorKind.OPERATOR, "192.0.2.7")) == "operator 192.0.2.7"
    assert str(WORKER) == "worker"


def test_a_drain_keeps_its_first_time_and_takes_the_last_reason() -> None:
    drained = BEATING.drained(LATER, by="192.0.2.7", reason="disk")
    assert (drained.enabled, drained.drained_at, drained.drained_by) == (False, LATER, "192.0.2.7")
    assert drained.drained(LATER + TIMEOUT, by="192.0.2.8", reason=None) is drained
    again = drained.drained(LATER + TIMEOUT, by="192.0.2.8", reason="board")
    assert (again.drained_at, again.drained_by, again.drain_reason) == (LATER, "192.0.2.8", "board")
    assert again.undrained() == BEATING
    assert BEATING.undrained() is BEATING


def test_a_drain_of_one_that_came_disabled_has_no_time() -> None:
    assert DISABLED.drained(LATER, by=None, reason="disk").drained_at is None


def test_a_beat_and_a_register_keep_every_fact_of_a_drain() -> None:
    drained = replace(BEATING.drained(LATER, by="192.0.2.7", reason="disk"), flaps=3, refused_at=START)
    assert drained.beaten(LATER) == replace(drained, last_heartbeat=LATER)
    assert drained.registered(Registration(BEATING.key), LATER) == replace(
        drained, last_heartbeat=LATER, refused_at=None
    )


def test_a_removed_one_that_comes_back_is_new() -> None:
    flapping = replace(TOMBSTONE, flaps=3)
    assert flapping.registered(Registration(BEATING.key), LATER) == ModelInstance.first(
        Registration(BEATING.key), LATER
    )


@pytest.mark.parametrize(
    ("instance", "gone"),
    [
        (BEATING, True),
        (replace(BEATING, check_healthy=False), False),
        (DISABLED, False),
        (LEFT, True),
        (LEFT.beaten(LATER + TIMEOUT), False),
        (LEFT.drained(LATER, by=None, reason=None), False),
        (replace(TOMBSTONE, enabled=False), True),
    ],
)
def test_what_is_long_gone(instance: ModelInstance, *, gone: bool) -> None:
    assert is_long_gone(instance, LATER + timedelta(seconds=1)) is gone
    assert not is_long_gone(instance, START)
