"""Controllers that share a database know each other, and agree on when an instance has expired."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from dbgpt_ctl.domain.controllers import ControllerIdentity
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import Backend, changes, sent, states, transitions
from tests.support.clock import START

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.anyio

SHORT, LONG = 60, 180


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


async def controller(
    backend: Backend, name: str, timeout_secs: float = SHORT, *, interval: float = 20, address: str = ""
) -> DatabaseModelRegistry:
    """Open, and as after its first tick; the test ticks for it."""
    registry = DatabaseModelRegistry(
        backend.url,
        heartbeat_timeout=timedelta(seconds=timeout_secs),
        refresh_interval=timedelta(seconds=interval),
        clock=backend.clock,
        identity=ControllerIdentity(name, "0.1.0", address or f"http://{name}:8000"),
    )
    await registry.open()
    backend.stack.push_async_callback(registry.close)
    await registry.tick()
    return registry


def names(registry: DatabaseModelRegistry) -> list[str]:
    return sorted(record.id for record in registry.controllers())


def stored(registry: DatabaseModelRegistry) -> list[str]:
    with registry._database.engine.begin() as connection:
        return sorted(connection.scalars(text("SELECT id FROM ctl_controller")))


async def test_controllers_know_each_other(backend: Backend) -> None:
    one = await controller(backend, "one")
    assert names(one) == ["one"]
    backend.clock.advance(3)
    other = await controller(backend, "other", LONG, interval=30)
    await one.tick()
    assert one.controllers() == other.controllers()
    record = next(record for record in one.controllers() if record.id == "other")
    assert record.version == "0.1.0"
    assert record.address == "http://other:8000"
    assert (record.heartbeat_timeout, record.heartbeat_interval) == (timedelta(seconds=LONG), timedelta(seconds=30))
    assert record.started_at == record.seen_at == START + timedelta(seconds=3)


async def test_a_record_is_renewed_every_ten_seconds(backend: Backend) -> None:
    one = await controller(backend, "one")
    seen = []
    for _ in range(25):
        backend.clock.advance(1)
        await one.tick()
        (record,) = one.controllers()
        assert record.started_at == START
        seen.append((record.seen_at - START).total_seconds())
    assert sorted(set(seen)) == [0, 10, 20]


async def test_by_the_databases_clock(backend: Backend) -> None:
    registry = DatabaseModelRegistry(
        backend.url,
        heartbeat_timeout=timedelta(seconds=SHORT),
        identity=ControllerIdentity("one", "0.1.0", "http://one:8000"),
        watch_absence=True,
    )
    async with registry:
        (record,) = registry.controllers()
    assert record.started_at == record.seen_at
    assert record.started_at > START


async def test_one_that_is_closed_is_gone_at_once(backend: Backend) -> None:
    one, other = await controller(backend, "one"), await controller(backend, "other")
    await other.close()
    await one.tick()
    assert names(one) == stored(one) == ["one"]


async def test_a_tick_that_is_under_way_does_not_bring_one_back_that_is_closed(backend: Backend) -> None:
    one, other = await controller(backend, "one"), await controller(backend, "other")
    left, ticking = threading.Event(), threading.Event()

    def tick_late(_first: object) -> None:
        ticking.set()
        left.wait(0.3)

    def leave() -> None:
        one_leaves()
        left.set()

    one_leaves = one._leave
    one._database.return_to_better_host = tick_late  # type: ignore[method-assign,assignment]
    one._leave = leave  # type: ignore[method-assign]
    tick = asyncio.create_task(one.tick())
    await asyncio.to_thread(ticking.wait)
    await one.close()
    await tick
    assert stored(other) == ["other"]


async def test_one_that_was_killed_is_gone_after_a_minute_and_forgotten_after_a_day(backend: Backend) -> None:
    one = await controller(backend, "one")
    await controller(backend, "killed", LONG)
    backend.clock.advance(60)
    await one.tick()
    assert names(one) == ["killed", "one"]
    backend.clock.advance(1)
    await one.tick()
    assert names(one) == ["one"]
    assert stored(one) == ["killed", "one"]
    backend.clock.advance(23 * 3600)
    await one.tick()
    await one.sweep()
    assert stored(one) == ["killed", "one"]
    backend.clock.advance(3600)
    await one.tick()
    await one.sweep()
    assert stored(one) == ["one"]


async def test_one_that_was_killed_and_starts_again_is_not_two(backend: Backend) -> None:
    one = await controller(backend, "one")
    await controller(backend, "before", LONG, address="http://other:8000")
    await controller(backend, "after", address="http://other:8000")
    await one.tick()
    assert names(one) == ["after", "one"]
    assert one.health().reason is None


async def test_one_that_was_forgotten_while_it_was_cut_off_is_back_at_its_next_tick(backend: Backend) -> None:
    one = await controller(backend, "one")
    with one._database.engine.begin() as connection:
        connection.execute(text("DELETE FROM ctl_controller"))
    backend.clock.advance(2 * 86400)
    await one.tick()
    (record,) = one.controllers()
    assert (record.started_at, record.seen_at) == (START, START + timedelta(days=2))


async def test_one_that_ended_before_the_clock_was_set_back_does_not_come_back(backend: Backend) -> None:
    one = await controller(backend, "one")
    backend.clock.advance(3600)
    await controller(backend, "killed", LONG)
    await one.tick()
    backend.clock.advance(-3600)
    await one.tick()
    await one.sweep()
    assert stored(one) == ["one"]
    await one.tick()
    assert names(one) == ["one"]


async def test_a_clock_that_is_set_back_expires_nothing_that_another_controller_lists(backend: Backend) -> None:
    short, long = await controller(backend, "short"), await controller(backend, "long", LONG)
    backend.clock.advance(100)
    await short.register(sent())
    backend.clock.advance(SHORT + 5)
    for registry in (long, short):
        await registry.tick()
    backend.clock.advance(-120)
    await short.tick()  # before `long` could renew its row
    await short.announce()
    assert await states(long) == [(str(sent().key), "healthy")]
    assert await transitions(short) == [("absent", "healthy", "register")]


@pytest.mark.parametrize("setting", ["heartbeat_timeout_secs", "heartbeat_interval_secs"])
@pytest.mark.parametrize("value", [1e308, 1e9, -60.0, 0.0])
async def test_a_row_without_sense_counts_as_none_and_is_once_in_the_log(
    backend: Backend, caplog: pytest.LogCaptureFixture, setting: str, value: float
) -> None:
    one = await controller(backend, "one")
    await controller(backend, "other", LONG)
    with one._database.engine.begin() as connection:
        connection.execute(text(f"UPDATE ctl_controller SET {setting} = :value WHERE id = 'other'"), {"value": value})
    await one.register(sent())
    caplog.clear()
    for _ in range(2):
        backend.clock.advance(SHORT)
        await one.tick()
    assert names(one) == ["one"]
    assert one.health().reason == "rows of ctl_controller make no sense and are ignored (other): delete them"
    await one.announce()
    assert (await changes(one))[-1].time == START + timedelta(seconds=SHORT)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the row of controller other in ctl_controller is ignored: its settings make no sense"
    ]


async def test_differing_settings_are_in_health_and_once_in_the_log(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dbgpt_ctl.registry.database.tables.controllers")
    one = await controller(backend, "one")
    assert one.health().reason is None
    backend.clock.advance(1)
    other = await controller(backend, "other", LONG)
    for _ in range(25):  # rows are renewed meanwhile
        for registry in (one, other):
            await registry.tick()
        backend.clock.advance(1)
    reason = "heartbeat timeouts differ: 60s at http://one:8000, 180s at http://other:8000"
    fix = "choose one value, and restart the controllers that have another one with --heartbeat-timeout-secs"
    assert (one.health().ready, one.health().reason) == (True, reason)  # ctl cuts a long reason
    assert other.health() == one.health()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [f"{reason}; {fix}"] * 2  # one of each controller
    await other.close()
    caplog.clear()
    for _ in range(2):
        await one.tick()
    assert one.health().reason is None
    assert [record.getMessage() for record in caplog.records] == ["the controllers have the same settings again"]


async def test_an_expiry_is_announced_by_the_largest_timeout_whoever_looks(backend: Backend) -> None:
    short, long = await controller(backend, "short"), await controller(backend, "long", LONG)
    await short.tick()
    await short.register(sent())
    backend.clock.advance(SHORT + 1)
    for registry, state in ((short, "unhealthy"), (long, "healthy")):
        await registry.announce()
        assert await states(registry) == [(str(sent().key), state)]
        lookup = await registry.get(sent().key)
        assert lookup
        assert lookup.entry.state == state
    assert await transitions(short) == [("absent", "healthy", "register")]

    backend.clock.advance(LONG - SHORT)
    await short.tick()  # the row of `long` is still young enough only if it ticks
    await long.tick()
    await short.tick()
    await short.announce()
    assert await transitions(short) == [("absent", "healthy", "register"), ("healthy", "unhealthy", "expire")]
    assert (await changes(long))[-1].time == START + timedelta(seconds=LONG)


async def test_after_the_last_controller_with_the_long_timeout_the_short_one_counts(backend: Backend) -> None:
    short, long = await controller(backend, "short"), await controller(backend, "long", LONG)
    await short.register(sent())
    await long.close()
    await short.tick()
    backend.clock.advance(SHORT + 1)
    await short.announce()
    assert (await changes(short))[-1].time == START + timedelta(seconds=SHORT)


async def test_a_timeout_that_is_changed_one_controller_at_a_time_does_not_flap(backend: Backend) -> None:
    """First the controllers get the long timeout, then the workers their long interval; and back."""
    clock, worker = backend.clock, sent()
    fleet = [await controller(backend, "one"), await controller(backend, "two")]
    await fleet[0].register(worker)

    async def beat(interval: float) -> None:
        for _ in range(4):
            for _ in range(int(interval)):
                clock.advance(1)
                for registry in fleet:
                    await registry.tick()
                    await registry.announce()
            assert await fleet[0].heartbeat(worker)
            fleet.reverse()

    for replaced, timeout, interval in ((0, LONG, 90), (1, LONG, 90), (0, SHORT, 90), (1, SHORT, 20)):
        await fleet[replaced].close()
        fleet[replaced] = await controller(backend, f"new-{replaced}-{timeout}", timeout)
        await beat(interval)
    assert await transitions(fleet[0]) == [("absent", "healthy", "register")]
    assert await states(fleet[0]) == [(str(worker.key), "healthy")]


async def test_a_heartbeat_that_only_the_long_timeout_allows_is_still_one_update(backend: Backend) -> None:
    short, _ = await controller(backend, "short"), await controller(backend, "long", LONG)
    await short.tick()
    await short.register(sent())
    backend.clock.advance(SHORT + 1)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            statements.append(statement)

    for engine in (short._database.engine, short._database.readers):
        event.listen(engine, "before_cursor_execute", note)
    assert await short.heartbeat(sent())
    assert [statement.split()[:2] for statement in statements] == [["UPDATE", "ctl_instance"]]


async def test_a_removed_instance_is_remembered_as_long_as_any_controller_needs(backend: Backend) -> None:
    short, long = await controller(backend, "short"), await controller(backend, "long", LONG)
    await short.tick()
    await short.register(sent())
    await short.deregister(sent().key, remove=True)
    backend.clock.advance(SHORT + 1)
    assert await short.get(sent().key)
    assert not await short.heartbeat(sent())
    assert not await long.heartbeat(sent())
