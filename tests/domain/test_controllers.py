from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.domain.controllers import (
    ControllerRecord,
    announcing_timeout,
    differing_timeouts_secs,
    setting_differences,
)
from tests.support.clock import START


def record(address: str, timeout: float = 60, interval: float = 20, *, started: float = 0) -> ControllerRecord:
    started_at = START + timedelta(seconds=started)
    return ControllerRecord(
        address, "0.1.0", address, timedelta(seconds=timeout), timedelta(seconds=interval), started_at, START
    )


@pytest.mark.parametrize(
    ("age", "is_living", "is_due"),
    [(0, True, False), (9.9, True, False), (10, True, True), (60, True, True), (60.1, False, True)],
)
def test_a_record_is_renewed_or_its_controller_counts_as_gone(age: float, is_living: bool, is_due: bool) -> None:
    now = START + timedelta(seconds=age)
    assert record("a").is_living(now) is is_living
    assert record("a").is_due(now) is is_due


@pytest.mark.parametrize(("ahead", "is_right"), [(5, True), (5.1, False)])
def test_a_record_that_a_wrong_clock_wrote_is_renewed_and_counts_until_then(ahead: float, is_right: bool) -> None:
    now = START - timedelta(seconds=ahead)
    assert record("a").is_living(now)
    assert record("a").is_due(now) is not is_right


def test_expiries_are_announced_with_the_largest_timeout() -> None:
    own = timedelta(seconds=60)
    assert announcing_timeout(own, []) == own
    assert announcing_timeout(own, [record("a", 60), record("b", 120.5)]) == timedelta(seconds=120.5)
    assert announcing_timeout(own, [record("a", 30)]) == own


def test_equal_settings_are_no_difference() -> None:
    assert list(setting_differences([])) == []
    assert list(setting_differences([record("http://a:8000"), record("http://b:8000", started=5)])) == []


def test_a_difference_names_both_values_both_addresses_and_the_fix() -> None:
    (difference,) = setting_differences([record("http://a:8000", 60), record("http://b:8000", 120.5, started=5)])
    assert str(difference) == "heartbeat timeouts differ: 60s at http://a:8000, 120.5s at http://b:8000"
    assert difference.fix == (
        "choose one value, and restart the controllers that have another one with --heartbeat-timeout-secs"
    )


def test_several_controllers_share_a_value() -> None:
    records = [
        record("http://c:8000", 604800, 5),
        record("http://a:8000", 604800, 30),
        record("http://b:8000", 60, 5, started=9),
    ]
    timeout, interval = setting_differences(records)
    assert str(timeout) == (
        "heartbeat timeouts differ: 60s at http://b:8000, 604800s at http://a:8000 and http://c:8000"
    )
    assert str(interval) == "heartbeat intervals differ: 5s at http://b:8000 and http://c:8000, 30s at http://a:8000"
    assert interval.fix.endswith(" with --heartbeat-interval-secs")


def test_different_timeouts_are_told_the_shortest_first() -> None:
    assert differing_timeouts_secs([record("a"), record("b")]) == ()
    assert differing_timeouts_secs([record("a", 90), record("b", 60.5), record("c", 90)]) == (60.5, 90.0)
