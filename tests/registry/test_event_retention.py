"""Which events every kind of registry that stores them forgets, and what it tells of those."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import EVERYTHING, EventFilter
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.registry.contract import (
    MAX_EVENT_AGE,
    MAX_EVENTS,
    MAX_OPERATOR_EVENT_AGE,
    MAX_OPERATOR_EVENTS,
    RECENT_EVENTS,
)
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.tables import events as event_rows
from dbgpt_ctl.registry.embedded import event_log
from tests.registry.backends import DATABASES
from tests.registry.test_event_filter import ANNA, GLM, change, ids, write
from tests.support.clock import START

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

CHURNING = InstanceKey("qwen@llm", "10.0.0.4", 8001)


@pytest.fixture(params=("embedded", *DATABASES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def forget(registry: ModelRegistry) -> None:
    """As the registry does by itself some time later."""
    await (registry.sweep() if isinstance(registry, DatabaseModelRegistry) else registry.announce())


def model(number: int) -> InstanceKey:
    return InstanceKey(f"model-{number}@llm", "10.0.0.5", 8001)


async def test_the_churn_of_one_model_does_not_erase_the_others(backend: Backend) -> None:
    registry = await backend.open()
    write(registry, [change(model(number % 30), seconds=number) for number in range(300)])
    write(registry, [change(GLM, "drain", ANNA, 300)])
    for begin in range(0, 20_000, 5000):
        write(registry, [change(CHURNING, seconds=301 + begin + number) for number in range(5000)])
        await forget(registry)
    assert len(await ids(registry, EventFilter(type="llm", host="10.0.0.5"))) == 301
    page = await registry.events(after=0, limit=MAX_EVENTS + 1)
    churned = [event.id for event in page.events if event.change.key == CHURNING]
    assert len(churned) == MAX_EVENTS - 300
    assert churned[-1] - churned[0] == len(churned) - 1, "the newest of them are there"
    assert (page.missed, page.operator_complete_since) == (True, None)
    assert page.complete_since == START + timedelta(seconds=301 + 20_000 - len(churned) - 1)
    assert not (await registry.events(after=churned[0] - 1)).missed


async def test_a_mass_expiry_leaves_half_of_the_others_and_is_read_as_a_whole(backend: Backend) -> None:
    registry = await backend.open()
    write(registry, [change(model(number % 10), seconds=number) for number in range(MAX_EVENTS)])
    write(registry, [change(CHURNING, seconds=MAX_EVENTS) for _ in range(5000)])
    await forget(registry)
    page = await registry.events(after=MAX_EVENTS, limit=5000)
    assert (page.missed, len(page.events)) == (False, RECENT_EVENTS)
    kept = [event.change.key for event in (await registry.events(after=0, limit=MAX_EVENTS)).events]
    assert {kept.count(model(number)) for number in range(10)} == {500}


async def test_what_operators_did_stays_for_thirty_days(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open()
    write(registry, [change(GLM, "drain", ANNA), change(GLM)])
    clock.advance(MAX_EVENT_AGE.total_seconds() + 1)
    await forget(registry)
    page = await registry.events(where=EventFilter(by="anna"))
    assert ([event.id for event in page.events], page.complete_since, page.operator_complete_since) == (
        [1],
        START,
        None,
    )
    clock.advance((MAX_OPERATOR_EVENT_AGE - MAX_EVENT_AGE).total_seconds())
    await forget(registry)
    page = await registry.events()
    assert (page.events, page.operator_complete_since, page.last_id) == ((), START, 2)
    assert (await registry.events(after=1)).missed
    assert not (await registry.events(after=2)).missed


async def test_so_much_of_what_operators_did_stays(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_rows, "MAX_OPERATOR_EVENTS", 20)
    monkeypatch.setattr(event_log, "MAX_OPERATOR_EVENTS", 20)
    assert MAX_OPERATOR_EVENTS == 100_000
    registry = await backend.open()
    write(registry, [change(GLM)])
    write(registry, [change(GLM, "drain", ANNA, number) for number in range(20 + event_log.SLACK)])
    await forget(registry)
    found = await ids(registry)
    assert found == [1, *range(2 + event_log.SLACK, 22 + event_log.SLACK)]
    page = await registry.events()
    assert page.complete_since is None
    assert page.operator_complete_since == START + timedelta(seconds=event_log.SLACK - 1)


async def test_nothing_is_lost_of_few_events(backend: Backend) -> None:
    registry = await backend.open()
    write(registry, [change(GLM), change(GLM, "drain", ANNA)])
    await forget(registry)
    page = await registry.events(where=EVERYTHING, after=0)
    assert (len(page.events), page.missed, page.complete_since, page.operator_complete_since) == (2, False, None, None)
