"""The events that stay in memory, and the pages of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import EVERYTHING, WORKER, Cause, Change, EventFilter, EventQuery
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.registry.contract import MAX_EVENT_AGE
from dbgpt_ctl.registry.embedded.event_log import EXAMINED_PER_TURN, EventLog
from tests.support.clock import START

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import EventPage

pytestmark = pytest.mark.anyio

ONE, OTHER = (InstanceKey("qwen@llm", "10.0.0.4", port) for port in (1, 2))


def change(key: InstanceKey = ONE, seconds: float = 0) -> Change:
    return Change(START + timedelta(seconds=seconds), key, "absent", "healthy", Cause("register", WORKER))


def small(max_events: int) -> EventLog:
    return EventLog("s", max_events=max_events, recent_events=1, slack=1)


async def page_of(
    log: EventLog, after: int | None = None, where: EventFilter = EVERYTHING, limit: int = 1000
) -> EventPage:
    return await log.page(EventQuery(after, where, limit))


async def ids(log: EventLog, after: int | None = None, where: EventFilter = EVERYTHING, limit: int = 1000) -> list[int]:
    return [event.id for event in (await page_of(log, after, where, limit)).events]


async def test_the_oldest_are_forgotten_and_a_page_reports_it() -> None:
    log = small(3)
    log.extend([change(seconds=second) for second in range(5)])
    assert await ids(log) == [3, 4, 5]
    pages = [await page_of(log, after) for after in range(6)]
    assert [page.missed for page in pages] == [True, True, False, False, False, False]
    assert {page.complete_since for page in pages} == {change(seconds=1).time}
    assert await ids(log, after=0) == await ids(log, after=2) == [3, 4, 5]
    assert await ids(log, after=3, limit=1) == [4]
    assert not (await page_of(log)).missed


async def test_the_old_are_forgotten_and_a_page_reports_it() -> None:
    log, week = EventLog("s"), MAX_EVENT_AGE.total_seconds()
    log.extend([change(seconds=second) for second in (0, 5, 11)])
    log.forget_old(START + timedelta(seconds=week + 5))
    assert await ids(log) == [2, 3], "one that is exactly so old is kept"
    log.forget_old(START + timedelta(seconds=week + 60))
    page = await page_of(log, 1)
    assert (page.events, page.last_id, page.missed, page.complete_since) == ((), 3, True, change(seconds=11).time)
    assert not (await page_of(log, 3)).missed
    log.extend([change()])
    assert await ids(log) == [4]


async def test_an_id_from_the_future_finds_nothing() -> None:
    log = EventLog("s")
    log.extend([change()])
    assert await ids(log, after=7) == []


@pytest.mark.parametrize("after", [None, 0])
async def test_no_limit_at_all(after: int | None) -> None:
    log = EventLog("s")
    log.extend([change(), change(OTHER)])
    assert await ids(log, after, limit=0) == await ids(log, after, EventFilter.of(ONE), limit=0) == []


async def test_others_have_their_turn_while_a_filter_looks_at_very_many() -> None:
    log = EventLog("s", max_events=10 * EXAMINED_PER_TURN)
    log.extend([change() for _ in range(10 * EXAMINED_PER_TURN)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    assert await ids(log, where=EventFilter(verb="drain")) == []
    other.cancel()
    assert turns >= 9
