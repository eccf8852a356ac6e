"""What is read from the nine keys of DB-GPT's API."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dbgpt_ctl.client.models import KnownInstance
from dbgpt_ctl.domain.instance import InstanceState
from tests.client.clients import OBJECT


@pytest.mark.parametrize(
    ("healthy", "enabled", "state"),
    [
        (True, True, InstanceState.HEALTHY),
        (True, False, InstanceState.DRAINED),
        (False, True, InstanceState.UNHEALTHY),
        (False, False, InstanceState.UNHEALTHY),
    ],
)
def test_the_state_that_the_nine_keys_show(healthy: bool, enabled: bool, state: InstanceState) -> None:
    assert KnownInstance.read(OBJECT | {"healthy": healthy, "enabled": enabled}).state is state


def test_a_heartbeat_without_an_offset_is_in_this_hosts_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:

    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-05:30")
        time.tzset()
        read = KnownInstance.read(OBJECT | {"last_heartbeat": "2026-01-02T03:04:05.678901"}).last_heartbeat
    time.tzset()
    assert read is not None
    assert read.utcoffset() == timedelta(hours=5, minutes=30)
    assert read == datetime(2026, 1, 1, 21, 34, 5, 678901, tzinfo=UTC)


@pytest.mark.parametrize("beat", [None, "", "soon", 17, "2026-13-01T00:00:00"])
def test_a_heartbeat_that_is_not_a_time_is_none(beat: Any) -> None:
    assert KnownInstance.read(OBJECT | {"last_heartbeat": beat}).last_heartbeat is None
