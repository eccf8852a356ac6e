"""Rows that no release stores: each other row is served, and a worker that lives gets its own row back."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from dbgpt_ctl.domain.events import ABSENT, EventFilter
from dbgpt_ctl.domain.lifecycle import Heartbeat
from dbgpt_ctl.errors import RegistryUnusable
from tests.registry.backends import sent, states
from tests.support.database_server import NO_TIME, no_time

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
    from tests.registry.backends import Backend

pytestmark = pytest.mark.anyio

GOOD, BAD = sent(port=1), sent(port=2)
NULLABLE = {
    "weight": "DOUBLE",
    "check_healthy": "BOOL",
    "registered_at": "DATETIME(6)",
    "last_heartbeat": "DATETIME(6)",
    "announced_state": "VARCHAR(16)",
    "flaps": "INT",
    "drained": "BOOL",
    "removed": "BOOL",
}


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


def spoil(engine: Engine, column: str, value: str, port: int = BAD.key.port) -> None:
    """Stores a value, an SQL literal, that the column does not take as it was made."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA writable_schema = ON")
            connection.exec_driver_sql(
                "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'ctl_instance'"
            )
            connection.exec_driver_sql("PRAGMA writable_schema = RESET")
        elif engine.dialect.name == "postgresql":
            if column in NULLABLE:
                connection.exec_driver_sql(f"ALTER TABLE ctl_instance ALTER {column} DROP NOT NULL")
        else:
            connection.exec_driver_sql("SET SESSION sql_mode = ''")
            if column in NULLABLE:
                kind = NULLABLE[column]
                connection.exec_driver_sql(f"ALTER TABLE ctl_instance MODIFY {column} {kind} NULL")
        stored = no_time(engine.dialect.name) if value == NO_TIME else value
        connection.exec_driver_sql(f"UPDATE ctl_instance SET {column} = {stored} WHERE port = {port}")


FAULTS = [
    ("weight", "NULL"),
    ("check_healthy", "NULL"),
    ("registered_at", "NULL"),
    ("last_heartbeat", "NULL"),
    ("last_heartbeat", NO_TIME),
    ("refused_at", NO_TIME),
    ("announced_state", "NULL"),
    ("announced_state", "'zombie'"),
    ("flaps", "NULL"),
    ("drained", "NULL"),
]


@pytest.mark.parametrize(("column", "value"), FAULTS)
async def test_a_row_that_cannot_be_read_is_left_out_until_its_worker_calls(
    registry: DatabaseModelRegistry,
    backend: Backend,
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    *,
    column: str,
    value: str,
) -> None:
    for registration in (GOOD, BAD):
        await registry.register(registration)
    spoil(engine, column, value)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await states(registry) == [(str(GOOD.key), "healthy")]
    assert backend.observer.failures == ["damage"] * 3, "as often as a read leaves it out"
    (line,) = [record.message for record in caplog.records]
    assert str(BAD.key) in line
    assert f"{column} is " in line
    health = registry.health()
    assert health.ready
    assert health.reason == (
        f"1 row of ctl_instance cannot be read and is left out: {line.partition('left out: ')[2]}; "
        "`ctl db check` lists them"
    )

    with pytest.raises(RegistryUnusable, match=f"{column} is "):
        await registry.get(BAD.key)
    await registry.announce()
    await registry.prune(timedelta(days=1))
    assert await registry.sweep() == 0
    assert [event.change.key for event in (await registry.events()).events][:2] == [GOOD.key, BAD.key]

    backend.observer.failures.clear()
    assert await registry.heartbeat(BAD)
    assert dict(await states(registry)) == {str(GOOD.key): "healthy", str(BAD.key): "healthy"}
    assert registry.health().reason is None
    assert backend.observer.failures == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("model_name", "'qwen'"),
        ("model_name", "'q\x1b[2J@llm'"),
        ("model_name", "'q\n@llm'"),
        ("port", "70000"),
        ("host", "''"),
    ],
)
async def test_an_identity_that_nobody_can_have_is_left_out_of_lists_and_counts(
    registry: DatabaseModelRegistry, engine: Engine, column: str, value: str
) -> None:
    for registration in (GOOD, BAD):
        await registry.register(registration)
    spoil(engine, column, value)
    assert await states(registry) == [(str(GOOD.key), "healthy")]
    assert f"{column} is {ascii(value)[1:-1]}" in str(registry.health().reason)
    assert {name: sum(counts) for name, counts in (await registry.count()).rows()} == {GOOD.key.model_name: 2}
    await registry.announce()
    assert await registry.sweep() == 0


async def test_a_register_writes_the_row_anew(registry: DatabaseModelRegistry, engine: Engine) -> None:
    """It counts as unknown: nothing of the damaged row is taken over, and no place is taken twice."""
    for registration in (GOOD, BAD):
        await registry.register(registration)
    assert await registry.drain(BAD.key, reason="a new disk")
    spoil(engine, "weight", "NULL")
    assert not await registry.deregister(BAD.key)
    await registry.register(BAD)
    assert [event.change.old for event in (await registry.events(where=EventFilter(port=BAD.key.port))).events][
        -1
    ] == ABSENT
    found = await registry.get(BAD.key)
    assert found
    assert found.entry.routable
    assert registry.health().reason is None


async def test_a_bad_row_fails_no_other_call_of_its_batch(registry: DatabaseModelRegistry, engine: Engine) -> None:
    many = [sent(port=port) for port in range(1, 20)]
    for registration in many:
        await registry.register(registration)
    spoil(engine, "announced_state", "'zombie'")
    await registry.list()
    answers = registry._writer.store([Heartbeat(registration) for registration in many])
    assert answers == [True] * len(many)
    assert len(await states(registry)) == len(many)


async def test_events_that_cannot_be_read_are_left_out(
    registry: DatabaseModelRegistry, backend: Backend, engine: Engine
) -> None:
    for port in range(1, 6):
        await registry.register(sent(port=port))
    with engine.begin() as connection:
        connection.execute(text("UPDATE ctl_event SET actor = 'ghost' WHERE id IN (2, 3)"))
        connection.execute(text("UPDATE ctl_event SET new_state = 'zombie' WHERE id = 4"))
    assert [event.id for event in (await registry.events()).events] == [1, 5]
    page = await registry.events(after=1, limit=3)
    assert (page.events, page.next_after) == ((), 4), "a reader goes on behind them"
    assert [event.id for event in (await registry.events(after=4)).events] == [5]
    assert "3 rows of ctl_event cannot be read" in str(registry.health().reason)
    with engine.begin() as connection:
        connection.execute(text("UPDATE ctl_event SET actor = 'worker', new_state = 'healthy'"))
    assert len((await registry.events()).events) == 5
    assert registry.health().reason is None
    assert backend.observer.failures == ["damage"] * 2


@pytest.mark.parametrize("change", ["DELETE FROM ctl_stream", "UPDATE ctl_stream SET stream = ''"])
async def test_a_lost_stream_begins_anew(registry: DatabaseModelRegistry, engine: Engine, change: str) -> None:
    await registry.register(sent(port=1))
    before = await registry.events()
    with engine.begin() as connection:
        connection.execute(text(change))
    await registry.register(sent(port=2))
    after = await registry.events()
    assert after.stream != before.stream
    assert [event.id for event in after.events] == [1, 2]
    with engine.begin() as connection:
        connection.execute(text(change))
    assert [event.id for event in (await registry.events()).events] == [1, 2]


@pytest.mark.parametrize("change", ["DELETE FROM ctl_pulse", f"UPDATE ctl_pulse SET ticked_at = {NO_TIME}"])
async def test_a_spoilt_pulse_is_written_anew(backend: Backend, engine: Engine, change: str) -> None:
    registry = await backend.open(watch_absence=True)
    await registry.register(GOOD)
    with engine.begin() as connection:
        if engine.dialect.name not in {"sqlite", "postgresql"}:
            connection.exec_driver_sql("SET SESSION sql_mode = ''")
        connection.execute(text(change.replace(NO_TIME, no_time(engine.dialect.name))))
    assert await states(registry) == [(str(GOOD.key), "healthy")]
    await registry.tick()  # type: ignore[attr-defined]
    with engine.begin() as connection:
        (ticked_at,) = connection.scalars(text("SELECT ticked_at FROM ctl_pulse"))
    assert not str(ticked_at).startswith("0000")
    assert registry.health().reason is None
