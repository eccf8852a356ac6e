"""The outages that each kind of registry remembers, and the hold after each (rule 8)."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from dbgpt_ctl.domain.registry_outage import OUTAGES_KEPT_FOR, Hold
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import DATABASES, TIMEOUT
from tests.support.clock import START

if TYPE_CHECKING:
    from typing import Any

    from tests.registry.backends import Backend

pytestmark = pytest.mark.anyio


async def tick(backend: Backend, seconds: float) -> None:
    """What each registry that holds the facts does every second, after the clock went on."""
    backend.clock.advance(seconds)
    for registry in backend.deciding:
        if isinstance(registry, DatabaseModelRegistry):
            await registry.tick()
        elif isinstance(registry, EmbeddedModelRegistry):
            registry.tick()


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def outage(gone: float, back: float) -> Hold:
    return Hold(after(gone), after(back), after(back) + TIMEOUT)


def sql(backend: Backend, statement: str) -> list[Any]:
    engine = create_engine(backend.url)
    try:
        with engine.begin() as connection:
            found = connection.execute(text(statement))
            return list(found) if found.returns_rows else []
    finally:
        engine.dispose()


async def test_a_gap_between_two_ticks_is_an_outage(backend: Backend) -> None:
    registry = await backend.open(watch_absence=True)
    await tick(backend, 4)
    assert await registry.outages() == ()
    await tick(backend, 90)
    assert await registry.outages() == (outage(4, 94),)


async def test_an_outage_that_goes_on_during_the_hold_is_one(backend: Backend) -> None:
    registry = await backend.open(watch_absence=True)
    await tick(backend, 90)
    await tick(backend, 30)
    assert await registry.outages() == (outage(0, 120),)
    for _ in range(12):
        await tick(backend, 5)
    await tick(backend, 6)
    assert await registry.outages() == (outage(0, 120), outage(180, 186))


async def test_old_outages_are_forgotten(backend: Backend) -> None:
    registry = await backend.open(watch_absence=True)
    await tick(backend, 90)
    for _ in range(12):
        await tick(backend, 5)
    month = OUTAGES_KEPT_FOR.total_seconds()
    await tick(backend, month)
    assert await registry.outages() == (outage(150, 150 + month),)


async def test_an_outage_follows_a_clock_that_is_set_back(backend: Backend) -> None:
    registry = await backend.open(watch_absence=True)
    await tick(backend, 90)
    await tick(backend, -1000)
    assert await registry.outages() == (outage(-1000, -910),)


async def test_without_a_pulse_there_are_none(backend: Backend) -> None:
    registry = await backend.open()
    backend.clock.advance(90)
    assert await registry.outages() == ()


@pytest.mark.parametrize("kind", DATABASES)
async def test_an_outage_outlives_the_controllers_and_each_reports_it(backend: Backend) -> None:
    first = await backend.open(watch_absence=True)
    await first.close()
    backend.deciding.clear()
    backend.clock.advance(90)
    one, other = [await backend.open(watch_absence=True) for _ in range(2)]
    assert await one.outages() == await other.outages() == (outage(0, 90),)


@pytest.mark.parametrize("kind", DATABASES)
async def test_of_two_controllers_one_stores_an_outage(backend: Backend) -> None:
    one, other = [await backend.open(watch_absence=True) for _ in range(2)]
    assert isinstance(one, DatabaseModelRegistry)
    assert isinstance(other, DatabaseModelRegistry)
    backend.clock.advance(90)
    await asyncio.gather(one.tick(), other.tick())
    await asyncio.gather(one.tick(), other.tick())
    assert await one.outages() == await other.outages() == (outage(0, 90),)
    assert len(sql(backend, "SELECT * FROM ctl_outage")) == 1


@pytest.mark.parametrize("kind", DATABASES)
async def test_an_outage_that_an_older_release_noticed_is_stored_later(backend: Backend) -> None:
    registry = await backend.open(watch_absence=True)
    await tick(backend, 90)
    sql(backend, "DELETE FROM ctl_outage")
    await tick(backend, 1)
    assert await registry.outages() == (outage(0, 90),)
    assert len(sql(backend, "SELECT * FROM ctl_outage")) == 1


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_row_that_cannot_be_read_is_left_out(backend: Backend) -> None:
    registry = await backend.open(watch_absence=True)
    await tick(backend, 90)
    sql(backend, "INSERT INTO ctl_outage (gone_at, back_at) VALUES ('yesterday', 'today')")
    await tick(backend, 1)
    assert await registry.outages() == (outage(0, 90),)
