"""The facts of an instance after each command (rules 1, 4, 5 and 7)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.domain.instance import (
    FUTURE_TOLERANCE,
    DrainFacts,
    InstanceKey,
    InstanceState,
    ListedInstance,
    ModelInstance,
    Registration,
)
from tests.domain.instances import (
    DEREGISTERED,
    DISABLED,
    DRAINED,
    DRAINED_FOR_30_S,
    EXPIRED,
    HEALTHY,
    KEY,
    LATER,
    SENT,
    TIMEOUT,
    TOMBSTONE,
)
from tests.support.clock import START


def test_the_first_call_stores_all_facts_as_sent() -> None:
    sent = Registration(KEY, weight=2.5, check_healthy=False, enabled=False, prompt_template="chat")
    first = ModelInstance.first(sent, START)
    assert first == ModelInstance(KEY, 2.5, False, "chat", START, START, drain=DrainFacts())
    assert ModelInstance.first(sent._replace(enabled=True), START) == first._replace(drain=None)


def test_a_later_register_updates_weight_template_and_heartbeat_only() -> None:
    sent = Registration(KEY, weight=3.0, check_healthy=False, enabled=False, prompt_template="chat")
    assert HEALTHY.registered(sent, LATER) == HEALTHY._replace(weight=3.0, prompt_template="chat", last_heartbeat=LATER)


def test_a_register_revives() -> None:
    revived = DEREGISTERED._replace(refused_at=LATER).registered(SENT, LATER)
    assert (revived.deregistered_at, revived.refused_at, revived.last_heartbeat) == (None, None, LATER)


def test_a_heartbeat_changes_only_its_time() -> None:
    rich = EXPIRED._replace(flaps=2, refused_at=START, weight=4.0)
    assert rich.with_heartbeat(LATER) == rich._replace(last_heartbeat=LATER)


@pytest.mark.parametrize("gone", [DEREGISTERED, TOMBSTONE])
def test_a_late_heartbeat_is_only_noted_as_refused(gone: ModelInstance) -> None:
    assert gone.with_heartbeat(LATER + TIMEOUT) == gone._replace(refused_at=LATER + TIMEOUT)


@pytest.mark.parametrize(
    ("ahead", "stored"),
    [
        (timedelta(seconds=1), START + timedelta(seconds=1)),
        (FUTURE_TOLERANCE, START + FUTURE_TOLERANCE),
        (FUTURE_TOLERANCE + timedelta(seconds=1), START),
    ],
)
def test_a_heartbeat_moves_back_only_one_that_a_wrong_clock_wrote(ahead: timedelta, stored: object) -> None:
    instance = HEALTHY._replace(last_heartbeat=START + ahead)
    assert instance.with_heartbeat(START).last_heartbeat == stored
    assert instance.registered(SENT, START).last_heartbeat == stored


def test_a_repeated_deregister_keeps_the_first_time() -> None:
    again = DEREGISTERED.deregistered(LATER + TIMEOUT, remove=True)
    assert (again.deregistered_at, again.removed) == (LATER, True)
    assert again.deregistered(LATER + TIMEOUT, remove=False).removed


def test_a_drain_keeps_its_begin_and_takes_the_last_reason() -> None:
    drained = HEALTHY.drained(LATER, by="192.0.2.7", reason="disk", until=None)
    assert drained == HEALTHY._replace(drain=DrainFacts(LATER, "192.0.2.7", "disk", None))
    assert drained.drained(LATER + TIMEOUT, by="192.0.2.8", reason=None, until=None) is drained
    again = drained.drained(LATER + TIMEOUT, by="192.0.2.8", reason="board", until=None)
    assert again.drain == DrainFacts(LATER, "192.0.2.8", "board", None)
    assert again.undrained() == HEALTHY
    assert HEALTHY.undrained() is HEALTHY


def test_another_drain_replaces_the_end() -> None:
    end = LATER + TIMEOUT
    for_a_time = DRAINED.drained(LATER, by="192.0.2.8", reason=None, until=end)
    assert for_a_time.drain == DrainFacts(START, "192.0.2.8", "disk", end)
    longer = for_a_time.drained(LATER, by="192.0.2.9", reason=None, until=end + TIMEOUT)
    assert longer.drain == DrainFacts(START, "192.0.2.9", "disk", end + TIMEOUT)
    assert longer.drained(LATER, by="192.0.2.9", reason=None, until=None).drain == DrainFacts(
        START, "192.0.2.9", "disk"
    )


def test_a_drain_is_over_from_its_end_on() -> None:
    end = START + timedelta(seconds=30)
    assert DRAINED_FOR_30_S.drain_at(end - timedelta.resolution) == DRAINED_FOR_30_S.drain
    assert DRAINED_FOR_30_S.drain_at(end) is None
    assert DRAINED.drain_at(end) == DRAINED.drain
    assert HEALTHY.drain_at(end) is None


def test_a_drain_after_the_end_of_one_is_a_new_one() -> None:
    end = START + timedelta(seconds=30)
    assert DRAINED_FOR_30_S.drained(end, by=None, reason=None, until=None).drain == DrainFacts(end)


def test_a_drain_of_an_instance_that_came_disabled_has_no_begin() -> None:
    assert DISABLED.drained(LATER, by=None, reason="disk", until=None).drain == DrainFacts(None, None, "disk", None)


def test_a_heartbeat_and_a_register_keep_every_fact_of_a_drain() -> None:
    drained = DRAINED_FOR_30_S._replace(flaps=3, refused_at=START)
    assert drained.with_heartbeat(LATER) == drained._replace(last_heartbeat=LATER)
    assert drained.registered(SENT, LATER) == drained._replace(last_heartbeat=LATER, refused_at=None)


def test_a_removed_instance_that_comes_back_is_new() -> None:
    flapping = TOMBSTONE._replace(flaps=3)
    assert flapping.registered(SENT, LATER) == ModelInstance.first(SENT, LATER)


@pytest.mark.parametrize("state", InstanceState)
@pytest.mark.parametrize("drain", [None, DrainFacts()])
def test_healthy_on_the_wire_means_a_fresh_heartbeat_and_routable_also_not_drained(
    state: InstanceState, drain: DrainFacts | None
) -> None:
    listed = ListedInstance(HEALTHY, state, drain)
    assert listed.is_healthy is (state == "healthy")
    assert listed.routable is (state == "healthy" and drain is None)


def test_an_identity_is_compared_exactly_and_sorted_by_name_host_and_port() -> None:
    in_order = [
        InstanceKey("a@llm", "a", 9),
        InstanceKey("a@llm", "a", 10),
        InstanceKey("a@llm", "b", 1),
        InstanceKey("b@llm", "a", 1),
    ]
    assert sorted(in_order[2:] + in_order[:2]) == in_order
    assert InstanceKey("Qwen@llm", "h", 1) != InstanceKey("qwen@llm", "h", 1)
    assert (KEY.name, KEY.type, str(KEY)) == ("qwen", "llm", "qwen@llm/10.0.0.4:8001")
