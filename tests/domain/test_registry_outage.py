"""Rule 8, without any registry: gaps, the instances that are held through one, and the end of a hold."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.domain.instance import InstanceKey, InstanceState, ModelInstance, Registration
from dbgpt_ctl.domain.lifecycle import state_of
from dbgpt_ctl.domain.registry_outage import MAX_GAP, MAX_OUTAGES, Outage, Pulse, remember
from tests.support.clock import START

TIMEOUT = timedelta(seconds=60)
MICRO = timedelta(microseconds=1)


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def with_heartbeat_at(seconds: float) -> ModelInstance:
    return ModelInstance.first(Registration(InstanceKey("qwen@llm", "10.0.0.4", 8001)), START + at(seconds))


def alive(pulse: Pulse, seconds: float) -> Pulse:
    """Ticks every second until START + `seconds`."""
    while pulse.ticked_at < START + at(seconds):
        pulse = pulse.ticked(min(pulse.ticked_at + at(1), START + at(seconds)), TIMEOUT)
    return pulse


def back_after_90() -> Pulse:
    return Pulse(START).ticked(START + at(90), TIMEOUT)


def test_ticks_that_are_only_late_are_no_gap() -> None:
    pulse = Pulse(START).ticked(START + MAX_GAP, TIMEOUT)
    assert pulse == Pulse(START + MAX_GAP)
    assert pulse.hold(START + MAX_GAP + MAX_GAP, TIMEOUT) is None


def test_a_gap_holds_for_one_timeout_and_ends_by_itself() -> None:
    back = START + at(90)
    pulse = alive(back_after_90(), 149)
    hold = pulse.hold(back + TIMEOUT - MICRO, TIMEOUT)
    assert hold is not None
    assert (hold.gone_at, hold.back_at, hold.until) == (START, back, back + TIMEOUT)
    assert pulse.ticked(back + TIMEOUT, TIMEOUT).hold(back + TIMEOUT, TIMEOUT) is None


def test_a_list_that_comes_before_the_first_tick_sees_the_gap_too() -> None:
    hold = Pulse(START).hold(START + at(90), TIMEOUT)
    assert hold is not None
    assert hold.back_at == START + at(90)


@pytest.mark.parametrize(
    ("beat", "state"),
    [
        (-60, InstanceState.HEALTHY),  # exactly the timeout old when the registry went away
        (-60.001, InstanceState.UNHEALTHY),  # expired before: stays expired
        (0.7, InstanceState.HEALTHY),  # stored after the last tick, before the end
        (91, InstanceState.HEALTHY),
    ],
)
def test_states_are_held_as_they_were(beat: float, state: InstanceState) -> None:
    now = START + at(100)
    hold = alive(back_after_90(), 100).hold(now, TIMEOUT)
    assert hold is not None
    assert state_of(with_heartbeat_at(beat), now, TIMEOUT, hold) is state


def test_an_instance_that_is_silent_again_after_the_gap_expires() -> None:
    hold = alive(back_after_90(), 149).hold(START + at(149), TIMEOUT)
    assert hold is not None
    assert state_of(with_heartbeat_at(90), START + at(149), at(30), hold) is InstanceState.UNHEALTHY


def test_a_second_gap_within_the_hold_continues_the_first() -> None:
    """A held instance had no full timeout yet to send a heartbeat."""
    pulse = alive(alive(back_after_90(), 95).ticked(START + at(120), TIMEOUT), 170)
    hold = pulse.hold(START + at(170), TIMEOUT)
    assert hold is not None
    assert (hold.gone_at, hold.back_at) == (START, START + at(120))


def test_a_gap_after_the_hold_is_a_new_one() -> None:
    pulse = alive(back_after_90(), 150).ticked(START + at(200), TIMEOUT)
    hold = pulse.hold(START + at(200), TIMEOUT)
    assert hold is not None
    assert (hold.gone_at, hold.back_at) == (START + at(150), START + at(200))


def test_a_clock_that_is_set_back_is_followed_and_a_step_ahead_is_a_gap() -> None:
    pulse = Pulse(START).ticked(START - at(3600), TIMEOUT)
    assert pulse == Pulse(START - at(3600))
    ahead = pulse.ticked(START, TIMEOUT)
    assert ahead.hold(START, TIMEOUT) is not None


def test_another_host_whose_clock_is_a_little_ahead_moves_nothing_back() -> None:
    pulse = Pulse(START + at(2))
    assert pulse.ticked(START, TIMEOUT) == pulse


def test_a_clock_that_is_set_back_takes_a_gap_with_it() -> None:
    """Otherwise a hold that began by a clock an hour ahead would last for an hour."""
    hour = at(3600)
    ahead = Pulse(START).ticked(START + hour, TIMEOUT)
    assert ahead.set_back(START + at(1)) == hour - at(1)
    back = ahead.ticked(START + at(1), TIMEOUT)
    assert back == Pulse(START + at(1), gone_at=START, back_at=START + at(1))
    assert alive(back, 60).hold(START + at(60), TIMEOUT) is not None
    assert alive(back, 61).hold(START + at(61), TIMEOUT) is None
    assert not back.set_back(START + at(1) - at(5)), "what another host's clock may be off"


@pytest.mark.parametrize(
    ("beat", "state"),
    [
        (3600 - 61, InstanceState.UNHEALTHY),  # by the clock an hour ahead, expired before it was set back
        (3600 - 59, InstanceState.HEALTHY),
        (-1, InstanceState.HEALTHY),  # before the other clock came, or since it went
        (-60, InstanceState.UNHEALTHY),
    ],
)
def test_until_a_tick_follows_a_clock_that_was_set_back_states_are_as_before(beat: float, state: InstanceState) -> None:
    now = START + at(1)
    hold = Pulse(START + at(3600)).hold(now, TIMEOUT)
    assert hold is not None
    assert state_of(with_heartbeat_at(beat), now, TIMEOUT, hold) is state


@pytest.mark.parametrize(
    ("beat", "expiry"),
    [
        (-61, -1),  # before the registry went away
        (-60, 0),
        (-59, 150),  # held: one timeout after its return at 90
        (0.7, 150),
        (90, 150),  # has beaten since: as usual
        (95, 155),
    ],
)
def test_when_a_beat_got_too_old(beat: float, expiry: float) -> None:
    assert back_after_90().expired_at(with_heartbeat_at(beat), TIMEOUT) == START + at(expiry)


def test_without_a_gap_a_beat_gets_too_old_after_the_timeout() -> None:
    assert Pulse(START).expired_at(with_heartbeat_at(7), TIMEOUT) == START + at(67)


@pytest.mark.parametrize("beat", [-61, -60, -59, 0.7, 90, 95])
def test_it_is_unhealthy_from_its_expiry_on(beat: float) -> None:
    expiry = back_after_90().expired_at(with_heartbeat_at(beat), TIMEOUT)
    for now, states in ((expiry - MICRO, {"healthy"}), (expiry + MICRO, {"unhealthy"})):
        if now < START + at(90):
            continue
        pulse = alive(back_after_90(), (now - START).total_seconds())
        hold = pulse.hold(now, TIMEOUT)
        instance = with_heartbeat_at(beat)
        assert state_of(instance, now, TIMEOUT, hold) in states


def test_the_newest_outages_are_remembered() -> None:
    many = [Outage(START + at(number), START + at(number + 0.5)) for number in range(MAX_OUTAGES + 1)]
    last = many.pop()
    assert remember(reversed(many), last, START + at(1000)) == (*many[1:], last)


def test_an_outage_that_a_clock_wrote_that_was_ahead_is_forgotten() -> None:
    assert remember([Outage(START, START + at(90))], None, START) == ()
