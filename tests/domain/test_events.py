"""The changes that a command or an expiry makes. No registry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dbgpt_ctl.domain.events import (
    EXPIRED as BY_EXPIRY,
)
from dbgpt_ctl.domain.events import (
    OPERATOR,
    WORKER,
    Actor,
    ActorKind,
    Cause,
    announce_command,
    announce_expiry,
    is_expiry_unannounced,
)
from dbgpt_ctl.domain.instance import InstanceState, ModelInstance
from dbgpt_ctl.domain.lifecycle import state_of
from tests.domain.instances import DEREGISTERED, DISABLED, EXPIRED, HEALTHY, KEY, LATER, SENT, TIMEOUT, TOMBSTONE
from tests.support.clock import START

CAUSE = Cause("a verb", WORKER)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, HEALTHY, [("absent", "healthy")], id="new"),
        pytest.param(None, DISABLED, [("absent", "drained")], id="new and disabled"),
        pytest.param(HEALTHY, HEALTHY.with_heartbeat(LATER), [], id="a heartbeat"),
        pytest.param(HEALTHY, HEALTHY.drained(LATER, by=None, reason=None), [("healthy", "drained")], id="drain"),
        pytest.param(DISABLED, DISABLED.undrained(), [("drained", "healthy")], id="undrain"),
        pytest.param(HEALTHY, DEREGISTERED, [("healthy", "deregistered")], id="deregister"),
        pytest.param(DEREGISTERED, DEREGISTERED.with_heartbeat(LATER), [], id="a refused heartbeat"),
        pytest.param(
            DEREGISTERED,
            DEREGISTERED.drained(LATER, by=None, reason=None),
            [("deregistered", "deregistered")],
            id="drain of a deregistered one",
        ),
        pytest.param(DEREGISTERED, TOMBSTONE, [("deregistered", "absent")], id="removal"),
        pytest.param(TOMBSTONE, TOMBSTONE.with_heartbeat(LATER), [], id="a heartbeat of a removed one"),
        pytest.param(TOMBSTONE, TOMBSTONE.registered(SENT, LATER), [("absent", "healthy")], id="back"),
        pytest.param(TOMBSTONE, DISABLED, [("absent", "drained")], id="back, and disabled"),
        pytest.param(EXPIRED, EXPIRED.with_heartbeat(LATER), [("unhealthy", "healthy")], id="a heartbeat after expiry"),
        pytest.param(EXPIRED, None, [("unhealthy", "absent")], id="pruned"),
        pytest.param(TOMBSTONE, None, [], id="a tombstone forgotten"),
        pytest.param(None, None, [], id="nothing"),
    ],
)
def test_the_changes_of_a_command(
    before: ModelInstance | None, after: ModelInstance | None, expected: list[tuple[str, str]]
) -> None:
    state = InstanceState.HEALTHY if after is None else state_of(after, LATER, TIMEOUT)
    announced, changes = announce_command(before, after, state, LATER, CAUSE)
    assert [(change.old, change.new) for change in changes] == expected
    assert all((change.time, change.key, change.cause) == (LATER, KEY, CAUSE) for change in changes)
    if after is None:
        assert announced is None
    else:
        assert announced == replace(after, announced_state=state)


def test_a_command_without_a_change_makes_no_new_facts() -> None:
    assert announce_command(HEALTHY, HEALTHY, InstanceState.HEALTHY, LATER, CAUSE)[0] is HEALTHY


def test_a_drain_of_an_unhealthy_instance_is_announced() -> None:
    drained = EXPIRED.drained(LATER, by=None, reason="disk")
    cause = Cause("drain", OPERATOR, "disk")
    announced, (change,) = announce_command(EXPIRED, drained, InstanceState.UNHEALTHY, LATER, cause)
    assert (change.old, change.new, change.cause.reason) == ("unhealthy", "unhealthy", "disk")
    assert announced == drained


@pytest.mark.parametrize("instance", [HEALTHY, DISABLED])
def test_an_expiry_is_counted(instance: ModelInstance) -> None:
    at = START + TIMEOUT
    after, change = announce_expiry(instance, at)
    assert after == replace(instance, announced_state=InstanceState.UNHEALTHY, flaps=1)
    assert (change.old, change.new) == (instance.announced_state, "unhealthy")
    assert (change.time, change.key, change.cause) == (at, KEY, BY_EXPIRY)


@pytest.mark.parametrize(
    ("instance", "state", "unannounced"),
    [
        (HEALTHY, InstanceState.UNHEALTHY, True),
        (DISABLED, InstanceState.UNHEALTHY, True),
        (HEALTHY, InstanceState.HEALTHY, False),
        (EXPIRED, InstanceState.UNHEALTHY, False),
        (DEREGISTERED, InstanceState.DEREGISTERED, False),
        (TOMBSTONE, InstanceState.DEREGISTERED, False),
    ],
)
def test_an_expiry_is_announced_once(instance: ModelInstance, state: InstanceState, *, unannounced: bool) -> None:
    assert is_expiry_unannounced(instance, state) is unannounced


def test_an_actor_reads_as_its_kind_and_address() -> None:
    assert str(Actor(ActorKind.OPERATOR, "192.0.2.7")) == "operator 192.0.2.7"
    assert str(WORKER) == "worker"
