"""Each command on an instance that is unknown, known, deregistered and removed: the new facts and the answer."""

from __future__ import annotations

import pytest

from dbgpt_ctl.domain.commands import Command, Deregister, Drain, Heartbeat, Register, Undrain
from dbgpt_ctl.domain.events import OPERATOR, WORKER, Actor, ActorKind
from dbgpt_ctl.domain.instance import ModelInstance
from tests.domain.instances import DEREGISTERED, DISABLED, HEALTHY, KEY, LATER, SENT, TOMBSTONE

SOMEBODY = Actor(ActorKind.OPERATOR, "192.0.2.7")
FIRST = ModelInstance.first(SENT, LATER)


@pytest.mark.parametrize(
    ("command", "stored", "after", "answer"),
    [
        pytest.param(Register(SENT), None, FIRST, True, id="register a new one"),
        pytest.param(Register(SENT), HEALTHY, HEALTHY.registered(SENT, LATER), True, id="register a known one"),
        pytest.param(Register(SENT), DEREGISTERED, DEREGISTERED.registered(SENT, LATER), True, id="revive"),
        pytest.param(Register(SENT), TOMBSTONE, FIRST, True, id="register a removed one"),
        pytest.param(Heartbeat(SENT), None, FIRST, True, id="heartbeat of an unknown one"),
        pytest.param(Heartbeat(SENT), HEALTHY, HEALTHY.with_heartbeat(LATER), True, id="heartbeat"),
        pytest.param(Heartbeat(SENT), DISABLED, DISABLED.with_heartbeat(LATER), True, id="heartbeat of a drained one"),
        pytest.param(
            Heartbeat(SENT), DEREGISTERED, DEREGISTERED.with_heartbeat(LATER), False, id="a late heartbeat is refused"
        ),
        pytest.param(Heartbeat(SENT), TOMBSTONE, TOMBSTONE.with_heartbeat(LATER), False, id="and after a removal"),
        pytest.param(Deregister(KEY), None, None, False, id="deregister an unknown one"),
        pytest.param(
            Deregister(KEY), HEALTHY, HEALTHY.deregistered(LATER, remove=False), True, id="deregister a known one"
        ),
        pytest.param(
            Deregister(KEY, remove=True), HEALTHY, HEALTHY.deregistered(LATER, remove=True), True, id="remove"
        ),
        pytest.param(Deregister(KEY), TOMBSTONE, TOMBSTONE, True, id="deregister a removed one"),
        pytest.param(Drain(KEY), None, None, False, id="drain an unknown one"),
        pytest.param(Drain(KEY), TOMBSTONE, None, False, id="drain a removed one"),
        pytest.param(
            Drain(KEY, "disk", SOMEBODY),
            HEALTHY,
            HEALTHY.drained(LATER, by="192.0.2.7", reason="disk"),
            True,
            id="drain",
        ),
        pytest.param(Undrain(KEY), None, None, False, id="undrain an unknown one"),
        pytest.param(Undrain(KEY), TOMBSTONE, None, False, id="undrain a removed one"),
        pytest.param(Undrain(KEY), DISABLED, DISABLED.undrained(), True, id="undrain"),
    ],
)
def test_the_facts_and_the_answer(
    command: Command, stored: ModelInstance | None, after: ModelInstance | None, *, answer: bool
) -> None:
    assert command.apply(stored, LATER) == (after, answer)
    assert command.key == KEY


@pytest.mark.parametrize(
    ("command", "verb", "actor", "reason"),
    [
        (Register(SENT), "register", WORKER, None),
        (Heartbeat(SENT), "heartbeat", WORKER, None),
        (Deregister(KEY, actor=SOMEBODY), "deregister", SOMEBODY, None),
        (Drain(KEY, "disk"), "drain", OPERATOR, "disk"),
        (Undrain(KEY), "undrain", OPERATOR, None),
    ],
)
def test_the_cause_of_an_event(command: Command, verb: str, actor: Actor, reason: str | None) -> None:
    assert command.cause == (verb, actor, reason)
