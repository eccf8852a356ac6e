"""How instances stand in the table."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.registry.backends import Backend, only, sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dbgpt_ctl.registry.contract import ModelRegistry

pytestmark = pytest.mark.anyio


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    backend = Backend("sqlite", tmp_path)
    async with backend.stack:
        yield backend


@pytest.fixture
async def registry(backend: Backend) -> ModelRegistry:
    return await backend.open()


async def test_sqlite_holds_times_as_text_in_utc_with_six_digits(backend: Backend, registry: ModelRegistry) -> None:
    """Written by SQLAlchemy and by the fast path of heartbeats: texts compare as times only in one format."""
    now = backend.clock.now()
    registered = backend.clock.advance(-now.microsecond / 1e6)
    await registry.register(sent())
    backend.clock.advance(60)
    await registry.heartbeat(sent())
    with closing(sqlite3.connect(str(backend.url.database))) as connection:
        (row,) = connection.execute("SELECT registered_at, last_heartbeat, typeof(last_heartbeat) FROM ctl_instance")
    assert row == (f"{registered:%Y-%m-%d %H:%M:%S}.000000", f"{backend.clock.now():%Y-%m-%d %H:%M:%S}.000000", "text")


async def test_a_time_without_fraction_is_read_and_beaten(backend: Backend, registry: ModelRegistry) -> None:
    """So an earlier release wrote a heartbeat at a full second, on Python up to 3.12."""
    await registry.register(sent())
    full_second = backend.clock.now().replace(microsecond=0)
    with closing(sqlite3.connect(str(backend.url.database))) as connection, connection:
        connection.execute("UPDATE ctl_instance SET last_heartbeat = ?", (f"{full_second:%Y-%m-%d %H:%M:%S}",))
    assert (await only(registry)).instance.last_heartbeat == full_second
    assert await registry.heartbeat(sent()) is True
    assert (await only(registry)).instance.last_heartbeat == backend.clock.now()
