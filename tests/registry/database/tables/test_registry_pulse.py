"""The time that a registry reports with its answers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime
from tests.registry.backends import TIMEOUT
from tests.support.clock import START, ManualClock


@pytest.mark.parametrize(("offset", "is_reported"), [(0, False), (2, False), (-2, False), (2.1, True), (-2.1, True)])
def test_the_databases_time_is_reported_where_it_is_not_this_hosts(offset: float, is_reported: bool) -> None:
    time = RegistryTime(None, TIMEOUT, host_clock=ManualClock())
    now = START + timedelta(seconds=offset)
    assert time.reported(now) == (now if is_reported else None)


def test_a_clock_that_was_given_is_this_hosts() -> None:
    time = RegistryTime(ManualClock(), TIMEOUT, host_clock=ManualClock())
    assert time.reported(START + timedelta(hours=1)) is None


@pytest.mark.parametrize(("offset", "is_reported"), [(None, False), (1.5, False), (-1.5, False), (-300.0, True)])
def test_in_an_outage_the_last_offset_holds(offset: float | None, is_reported: bool) -> None:
    clock = ManualClock()
    time = RegistryTime(None, TIMEOUT, host_clock=clock)
    time.clock_offset_secs = offset
    clock.advance(60.25)
    expected = START + timedelta(seconds=60 + (offset or 0))
    assert time.reported_in_outage() == (expected.replace(microsecond=0) if is_reported else None)
