"""The events that stay in memory, and the pages of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.domain.events import WORKER, Cause, Change, EventQuery
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.registry.embedded.event_log import EventLog
from tests.support.clock import START

ONE, OTHER = (InstanceKey("qwen@llm", "10.0.0.4", port) for port in (1, 2))


def change(key: InstanceKey = ONE, seconds: float = 0) -> Change:
    return Change(START + timedelta(seconds=seconds), key, "absent", "healthy", Cause("register", WORKER))


def ids(log: EventLog, after: int | None = None, key: InstanceKey | None = None, limit: int = 1000) -> list[int]:
    return [event.id for event in log.page(EventQuery(after, None, key, limit)).events]


def test_the_oldest_are_forgotten_and_a_page_reports_it() -> None:
    log = EventLog("s", max_events=3)
    log.extend([change() for _ in range(5)])
    assert ids(log) == [3, 4, 5]
    assert [log.page(EventQuery(after, limit=10)).missed for after in range(6)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert ids(log, after=0) == ids(log, after=2) == [3, 4, 5]
    assert ids(log, after=3, limit=1) == [4]
    assert not log.page(EventQuery(None, limit=10)).missed


def test_the_old_are_forgotten_and_a_page_reports_it() -> None:
    log = EventLog("s", max_age=timedelta(seconds=10))
    log.extend([change(seconds=second) for second in (0, 5, 11)])
    log.forget_old(START + timedelta(seconds=15))
    assert ids(log) == [2, 3], "one that is exactly so old is kept"
    log.forget_old(START + timedelta(seconds=60))
    page = log.page(EventQuery(1, limit=10))
    assert (page.events, page.last_id, page.missed) == ((), 3, True)
    assert not log.page(EventQuery(3, limit=10)).missed
    log.extend([change()])
    assert ids(log) == [4]


def test_an_id_from_the_future_finds_nothing() -> None:
    log = EventLog("s")
    log.extend([change()])
    assert ids(log, after=7) == []


@pytest.mark.parametrize("after", [None, 0])
def test_no_limit_at_all(after: int | None) -> None:
    log = EventLog("s")
    log.extend([change(), change(OTHER)])
    assert ids(log, after, limit=0) == ids(log, after, key=ONE, limit=0) == []


def test_it_continues_another_log() -> None:
    old, new = EventLog("old", max_events=2), EventLog("new")
    old.extend([change(), change(), change()])
    new.restore(old.stream, old.last_id, old.events)
    new.extend([change()])
    assert (new.stream, ids(new)) == ("old", [2, 3, 4])
