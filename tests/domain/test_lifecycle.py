"""The states of an instance at a time (rules 2, 3, 4 and 8), and the commands that change it. No registry."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from dbgpt_ctl.domain.events import EXPIRED as BY_EXPIRY
from dbgpt_ctl.domain.events import EXPIRY, OPERATOR, WORKER, Actor, ActorKind, Cause
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState, ModelInstance
from dbgpt_ctl.domain.lifecycle import (
    Command,
    Deregister,
    Drain,
    Evaluation,
    Heartbeat,
    Register,
    Undrain,
    is_forgotten,
    is_long_gone,
    may_expire,
    state_of,
    tombstone_since,
)
from dbgpt_ctl.domain.registry_outage import Hold, Pulse
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

MICRO = timedelta(microseconds=1)
CAUSE = Cause("register", WORKER)
SOMEBODY = Actor(ActorKind.OPERATOR, "192.0.2.7")
FIRST = ModelInstance.first(SENT, LATER)


@pytest.mark.parametrize(
    ("instance", "age", "state"),
    [
        (HEALTHY, timedelta(), "healthy"),
        (HEALTHY, TIMEOUT, "healthy"),
        (HEALTHY, TIMEOUT + MICRO, "unhealthy"),
        (HEALTHY, -TIMEOUT, "healthy"),
        (DISABLED, TIMEOUT, "healthy"),
        (DISABLED, TIMEOUT + MICRO, "unhealthy"),
        (HEALTHY._replace(check_healthy=False), 99 * TIMEOUT, "healthy"),
        (DISABLED._replace(check_healthy=False), 99 * TIMEOUT, "healthy"),
        (DEREGISTERED, timedelta(), "deregistered"),
        (DISABLED._replace(deregistered_at=LATER), 99 * TIMEOUT, "deregistered"),
    ],
)
def test_the_state_follows_from_the_facts_and_the_time(instance: ModelInstance, age: timedelta, state: str) -> None:
    assert state_of(instance, START + age, TIMEOUT) == state


@pytest.mark.parametrize(
    ("instance", "expires"),
    [
        (HEALTHY, True),
        (DISABLED, True),
        (EXPIRED, False),
        (DEREGISTERED, False),
        (TOMBSTONE, False),
        (HEALTHY._replace(check_healthy=False), False),
    ],
)
def test_silence_expires_only_an_instance_with_a_heartbeat_to_miss(instance: ModelInstance, *, expires: bool) -> None:
    assert may_expire(instance) is expires


@pytest.mark.parametrize(
    ("instance", "gone"),
    [
        (HEALTHY, True),
        (HEALTHY._replace(check_healthy=False), False),
        (DISABLED, False),
        (DEREGISTERED, True),
        (DEREGISTERED.with_heartbeat(LATER + TIMEOUT), False),
        (DRAINED, False),
        (DRAINED_FOR_30_S, True),
        (DEREGISTERED._replace(drain=DRAINED.drain), False),
        (DEREGISTERED._replace(drain=DRAINED_FOR_30_S.drain), True),
        (TOMBSTONE._replace(drain=DRAINED.drain), True),
    ],
)
def test_what_is_long_gone(instance: ModelInstance, *, gone: bool) -> None:
    """A drain keeps an instance until its end."""
    now = START + timedelta(seconds=30)
    assert is_long_gone(instance, LATER + timedelta(seconds=1), now) is gone
    assert not is_long_gone(instance, START, now)
    if instance.drain is not None and not instance.removed:
        assert not is_long_gone(instance, LATER + timedelta(seconds=1), now - MICRO)


def test_a_tombstone_lasts_for_one_timeout_after_the_last_heartbeat_that_it_refused() -> None:
    assert tombstone_since(DEREGISTERED) is None
    assert not is_forgotten(DEREGISTERED, LATER + 99 * TIMEOUT, TIMEOUT)
    assert tombstone_since(TOMBSTONE) == LATER
    assert not is_forgotten(TOMBSTONE, LATER + TIMEOUT, TIMEOUT)
    assert is_forgotten(TOMBSTONE, LATER + TIMEOUT + MICRO, TIMEOUT)
    refused = TOMBSTONE.with_heartbeat(LATER + TIMEOUT)
    assert tombstone_since(refused) == LATER + TIMEOUT
    assert not is_forgotten(refused, LATER + 2 * TIMEOUT, TIMEOUT)


@pytest.mark.parametrize(
    ("since", "forgotten"),
    [
        (timedelta(seconds=10), False),  # held: nobody could refuse a heartbeat during the outage
        (timedelta(seconds=-61), True),  # forgotten before the outage
        (timedelta(seconds=90), True),  # removed after it
    ],
)
def test_a_tombstone_is_held_through_an_outage(since: timedelta, *, forgotten: bool) -> None:
    hold = Hold(START, START + timedelta(seconds=90), START + timedelta(seconds=150))
    tombstone = TOMBSTONE._replace(deregistered_at=START + since)
    assert is_forgotten(tombstone, START + timedelta(seconds=149), timedelta(seconds=50), hold) is forgotten


def evaluation(now: datetime, pulse: Pulse | None = None) -> Evaluation:
    return Evaluation(now, pulse, TIMEOUT)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(None, HEALTHY, [("absent", "healthy")], id="new"),
        pytest.param(None, DISABLED, [("absent", "healthy,drained")], id="new and disabled"),
        pytest.param(HEALTHY, HEALTHY.with_heartbeat(LATER), [], id="a heartbeat"),
        pytest.param(HEALTHY, DRAINED, [("healthy", "healthy,drained")], id="drain"),
        pytest.param(DRAINED, DRAINED_FOR_30_S, [("healthy", "healthy,drained")], id="another end of a drain"),
        pytest.param(
            DRAINED,
            DRAINED.drained(LATER, by=None, reason="board", until=None),
            [("healthy", "healthy,drained")],
            id="another reason of a drain",
        ),
        pytest.param(DRAINED, DRAINED.with_heartbeat(LATER), [], id="a heartbeat of a drained one"),
        pytest.param(DISABLED, DISABLED.undrained(), [("healthy", "healthy")], id="undrain"),
        pytest.param(HEALTHY, DEREGISTERED, [("healthy", "deregistered")], id="deregister"),
        pytest.param(DEREGISTERED, DEREGISTERED.with_heartbeat(LATER), [], id="a refused heartbeat"),
        pytest.param(
            DEREGISTERED,
            DEREGISTERED._replace(drain=DRAINED.drain),
            [("deregistered", "deregistered,drained")],
            id="drain of a deregistered one",
        ),
        pytest.param(DEREGISTERED, TOMBSTONE, [("deregistered", "absent")], id="removal"),
        pytest.param(TOMBSTONE, TOMBSTONE.with_heartbeat(LATER), [], id="a heartbeat of a removed one"),
        pytest.param(TOMBSTONE, TOMBSTONE.registered(SENT, LATER), [("absent", "healthy")], id="back"),
        pytest.param(TOMBSTONE, DISABLED, [("absent", "healthy,drained")], id="back, and disabled"),
        pytest.param(EXPIRED, EXPIRED.with_heartbeat(LATER), [("unhealthy", "healthy")], id="a heartbeat after expiry"),
        pytest.param(EXPIRED, None, [("unhealthy", "absent")], id="pruned"),
        pytest.param(TOMBSTONE, None, [], id="a tombstone forgotten"),
        pytest.param(None, None, [], id="nothing"),
    ],
)
def test_the_changes_of_a_command(
    before: ModelInstance | None, after: ModelInstance | None, expected: list[tuple[str, str]]
) -> None:
    announced, changes = evaluation(LATER).announce_command(before, after, CAUSE)
    assert [(change.old, f"{change.new},drained" if change.drained else change.new) for change in changes] == expected
    assert all((change.time, change.key, change.cause) == (LATER, KEY, CAUSE) for change in changes)
    if after is None:
        assert announced is None
    else:
        assert announced == after._replace(announced_state=state_of(after, LATER, TIMEOUT))


def test_a_command_without_a_change_makes_no_new_facts() -> None:
    assert evaluation(LATER).announce_command(HEALTHY, HEALTHY, CAUSE)[0] is HEALTHY


def test_a_drain_of_an_unhealthy_instance_is_announced() -> None:
    late = evaluation(START + 2 * TIMEOUT)
    drained = EXPIRED.drained(late.now, by=None, reason="disk", until=None)
    announced, (change,) = late.announce_command(EXPIRED, drained, Cause("drain", OPERATOR, "disk"))
    assert (change.old, change.new, change.cause.reason) == ("unhealthy", "unhealthy", "disk")
    assert announced == drained


@pytest.mark.parametrize("command", [Drain(KEY), Undrain(KEY)])
@pytest.mark.parametrize("instance", [EXPIRED, EXPIRED._replace(drain=DrainFacts())])
def test_a_drain_announces_no_state(instance: ModelInstance, command: Command) -> None:
    """As when the clock was set back after the expiry was announced, or another controller has a longer timeout."""
    early = evaluation(START + TIMEOUT)
    assert early.state_of(instance) is InstanceState.HEALTHY
    after, _ = command.apply(instance, early.now)
    assert after
    announced, changes = early.announce_command(instance, after, command.cause)
    assert announced == after
    assert [(change.old, change.new) for change in changes] == [("unhealthy", "unhealthy")] * (
        instance.drain != after.drain
    )
    assert len(early.announce_command(announced, after.with_heartbeat(early.now), CAUSE)[1]) == 1


@pytest.mark.parametrize("instance", [HEALTHY, DISABLED])
def test_an_expiry_is_counted(instance: ModelInstance) -> None:
    after, (change,) = evaluation(START + 2 * TIMEOUT).announce(instance)
    assert after == instance._replace(announced_state=InstanceState.UNHEALTHY, flaps=1)
    assert (change.old, change.new, change.drained) == ("healthy", "unhealthy", instance is DISABLED)
    assert (change.time, change.key, change.cause) == (START + TIMEOUT, KEY, BY_EXPIRY)


@pytest.mark.parametrize(
    ("instance", "age", "unannounced"),
    [
        (HEALTHY, 2 * TIMEOUT, True),
        (DISABLED, 2 * TIMEOUT, True),
        (HEALTHY, TIMEOUT, False),
        (EXPIRED, 2 * TIMEOUT, False),
        (DEREGISTERED, 2 * TIMEOUT, False),
        (TOMBSTONE, 2 * TIMEOUT, False),
    ],
)
def test_an_expiry_is_announced_once(instance: ModelInstance, age: timedelta, *, unannounced: bool) -> None:
    assert evaluation(START + age).is_expiry_unannounced(instance) is unannounced


def test_an_expiry_is_announced_at_the_time_when_the_heartbeat_got_too_old() -> None:
    late = evaluation(START + 2 * TIMEOUT)
    assert late.is_expiry_unannounced(HEALTHY)
    announced, (change,) = late.announce(HEALTHY)
    assert (change.time, announced) == (START + TIMEOUT, EXPIRED)
    assert late.announce(announced) == (announced, [])
    assert evaluation(START + TIMEOUT).announce(HEALTHY) == (HEALTHY, [])


def test_another_timeout_is_another_evaluation_of_the_same_time_and_outage() -> None:
    own = evaluation(START + 2 * TIMEOUT)
    longer = own.with_timeout(3 * TIMEOUT)
    assert (own.state_of(HEALTHY), longer.state_of(HEALTHY)) == ("unhealthy", "healthy")
    assert longer.expires_at(HEALTHY) == START + 3 * TIMEOUT
    assert longer.announce(HEALTHY) == (HEALTHY, [])
    assert own.with_timeout(TIMEOUT) is own
    held = evaluation(START + 2 * TIMEOUT, Pulse(START)).with_timeout(3 * TIMEOUT).hold
    assert held
    assert held.until == START + 5 * TIMEOUT


def test_while_states_are_held_no_expiry_is_announced() -> None:
    pulse = Pulse(START)
    held = evaluation(START + 2 * TIMEOUT, pulse)
    assert held.hold is not None
    assert held.state_of(HEALTHY) is InstanceState.HEALTHY
    assert held.announce(HEALTHY) == (HEALTHY, [])
    assert held.announce(DRAINED_FOR_30_S)[0] == HEALTHY, "a drain ends all the same"
    assert held.expires_at(HEALTHY) == START + 3 * TIMEOUT, "when the hold ends"
    assert held.expires_before == START - TIMEOUT, "older heartbeats had expired before the outage"


def test_held_is_an_instance_whose_own_heartbeat_is_too_old() -> None:
    pulse = Pulse(START).ticked(START + 2 * TIMEOUT, TIMEOUT)
    now = evaluation(START + 2 * TIMEOUT, pulse)
    beating = HEALTHY._replace(last_heartbeat=START + 2 * TIMEOUT)
    unchecked = HEALTHY._replace(check_healthy=False)
    expired = HEALTHY._replace(last_heartbeat=START - 2 * TIMEOUT)
    deregistered = HEALTHY._replace(deregistered_at=START)
    held = [now.listed(instance).held for instance in (HEALTHY, beating, unchecked, expired, deregistered)]
    assert held == [True, False, False, False, False]
    assert not evaluation(START, None).listed(HEALTHY).held


@pytest.mark.parametrize(
    ("seconds", "instance", "expected"),
    [
        pytest.param(29.999999, DRAINED_FOR_30_S, [], id="not over yet"),
        pytest.param(30, DRAINED_FOR_30_S, [(30, "healthy", "healthy", "undrain")], id="over"),
        pytest.param(
            61,
            DRAINED_FOR_30_S,
            [(30, "healthy", "healthy", "undrain"), (60, "healthy", "unhealthy", "expire")],
            id="over, then expired",
        ),
        pytest.param(
            90,
            DRAINED._replace(drain=DrainFacts(until=START + timedelta(seconds=70))),
            [(60, "healthy", "unhealthy,drained", "expire"), (70, "unhealthy", "unhealthy", "undrain")],
            id="expired, then over",
        ),
        pytest.param(
            61,
            DRAINED._replace(drain=DrainFacts(until=START + TIMEOUT)),
            [(60, "healthy", "healthy", "undrain"), (60, "healthy", "unhealthy", "expire")],
            id="over while its heartbeat was fresh for the last time",
        ),
        pytest.param(
            61,
            DEREGISTERED._replace(drain=DRAINED_FOR_30_S.drain),
            [(30, "deregistered", "deregistered", "undrain")],
            id="of a deregistered one",
        ),
        pytest.param(61, TOMBSTONE._replace(drain=DRAINED_FOR_30_S.drain), [], id="of a removed one"),
    ],
)
def test_the_end_of_a_drain_is_announced_once_with_its_time_and_in_order_of_time(
    seconds: float, instance: ModelInstance, expected: list[tuple[float, str, str, str]]
) -> None:
    late = evaluation(START + timedelta(seconds=seconds))
    announced, changes = late.announce(instance)
    assert [
        (
            (change.time - START).total_seconds(),
            change.old,
            f"{change.new},drained" if change.drained else change.new,
            change.cause.verb,
        )
        for change in changes
    ] == expected
    assert all(change.cause.actor == EXPIRY for change in changes)
    assert late.announce(announced) == (announced, [])
    assert (announced is instance) is (not expected)


def test_the_next_deadline_is_the_expiry_or_the_end_of_the_drain() -> None:
    at_start = evaluation(START)
    assert at_start.next_deadline(HEALTHY) == START + TIMEOUT
    assert at_start.next_deadline(DRAINED) == START + TIMEOUT
    assert at_start.next_deadline(DRAINED_FOR_30_S) == START + timedelta(seconds=30)
    assert at_start.next_deadline(EXPIRED._replace(drain=DRAINED_FOR_30_S.drain)) == START + timedelta(seconds=30)
    assert at_start.next_deadline(EXPIRED) is None
    assert at_start.next_deadline(TOMBSTONE._replace(drain=DRAINED_FOR_30_S.drain)) is None


def test_a_command_is_announced_with_the_state_at_the_time() -> None:
    announced, (change,) = evaluation(LATER).announce_command(None, HEALTHY, CAUSE)
    assert (announced, change.old, change.new) == (HEALTHY, "absent", "healthy")
    _, (removal,) = evaluation(LATER).announce_command(HEALTHY, None, CAUSE)
    assert (removal.old, removal.new) == ("healthy", "absent")


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
            HEALTHY.drained(LATER, by="192.0.2.7", reason="disk", until=None),
            True,
            id="drain",
        ),
        pytest.param(
            Drain(KEY, "disk", SOMEBODY, TIMEOUT),
            HEALTHY,
            HEALTHY.drained(LATER, by="192.0.2.7", reason="disk", until=LATER + TIMEOUT),
            True,
            id="drain for a time",
        ),
        pytest.param(Undrain(KEY), None, None, False, id="undrain an unknown one"),
        pytest.param(Undrain(KEY), TOMBSTONE, None, False, id="undrain a removed one"),
        pytest.param(Undrain(KEY), DISABLED, DISABLED.undrained(), True, id="undrain"),
    ],
)
def test_a_command_gives_the_new_facts_and_the_answer(
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
