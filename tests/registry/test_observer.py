"""What every kind of registry tells its observer, and its figures."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.instance import DrainRequest
from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable
from dbgpt_ctl.registry.contract import RegistryFigures
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import DATABASES, TIMEOUT, changes, sent

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY = sent().key
SILENT = TIMEOUT.total_seconds() + 1
MINUTE = timedelta(minutes=1)


async def figures(backend: Backend) -> RegistryFigures:
    """Those of the registry that holds the facts, as after its next refresh."""
    deciding = backend.deciding[0]
    if isinstance(deciding, DatabaseModelRegistry):
        await deciding.refresh()
    return deciding.figures()


# --- changes ------------------------------------------------------------------------------------------------------


async def test_every_event_is_told_once_and_in_order(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.heartbeat(sent(port=2))
    await registry.register(sent(port=3), drain=DrainRequest("new disk", MINUTE))
    await registry.register(sent(port=4, enabled=False))
    await registry.drain(KEY, duration=MINUTE)
    await registry.undrain(KEY)
    await registry.deregister(KEY)
    await registry.register(sent())
    await registry.deregister(sent(port=2).key, remove=True)
    clock.advance(SILENT)
    await backend.announce()
    await registry.heartbeat(sent())
    clock.advance(SILENT)
    assert len(await registry.prune(MINUTE)) == 2

    events = await changes(registry)
    verbs = {change.cause.verb for change in events}
    assert verbs == {"register", "heartbeat", "drain", "undrain", "deregister", "expire", "prune"}
    assert backend.observer.changes == events


async def test_what_changes_nothing_is_not_told(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open()
    await registry.register(sent())
    backend.observer.changes.clear()
    clock.advance(1)
    for _ in range(3):
        await registry.register(sent(weight=3.0))
        await registry.heartbeat(sent())
        await registry.undrain(KEY)
        await registry.deregister(sent(port=9).key)
        assert await registry.drain(sent(port=9).key) is None
        await registry.prune(MINUTE)
        await backend.announce()
    clock.advance(SILENT)
    assert len(await registry.prune(MINUTE, dry_run=True)) == 1
    assert backend.observer.changes == []


async def test_what_is_refused_is_neither_told_nor_a_failure(backend: Backend) -> None:
    registry = await backend.open(max_instances=1)
    await registry.register(sent())
    backend.observer.changes.clear()
    with pytest.raises(RegistryFull):
        await registry.register(sent(port=2))
    assert (backend.observer.changes, backend.observer.failures) == ([], [])


async def test_a_closed_registry_is_no_failure(backend: Backend) -> None:
    registry = await backend.open()
    await registry.close()
    with pytest.raises(RegistryUnavailable):
        await registry.heartbeat(sent())
    assert backend.observer.failures == []


# --- batches ------------------------------------------------------------------------------------------------------


async def test_batches_are_those_of_a_database(backend: Backend) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.heartbeat(sent())
    await registry.list()
    await registry.deregister(KEY)
    batches = backend.observer.batches
    assert [calls for calls, _ in batches] == ([1, 1, 1] if backend.kind in DATABASES else [])
    assert all(0 < seconds < TIMEOUT.total_seconds() for _, seconds in batches)


# --- figures ------------------------------------------------------------------------------------------------------


async def test_instances_and_tombstones_count(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=7)

    async def counted() -> tuple[int | None, int | None]:
        now = await figures(backend)
        return now.instances, now.max_instances

    assert await counted() == (0, 7)
    for port in (1, 2, 3):
        await registry.register(sent(port=port))
    await registry.heartbeat(sent(port=4))
    assert await counted() == (4, 7)
    await registry.deregister(sent(port=1).key)
    await registry.deregister(sent(port=2).key, remove=True)
    await registry.drain(sent(port=3).key)
    assert await counted() == (4, 7), "a removed instance counts while it is remembered"
    clock.advance(SILENT)
    await registry.prune(MINUTE)
    assert await counted() == (2, 7), "the tombstone and the drained instance"


async def test_the_clock_is_the_one_of_this_machine(backend: Backend) -> None:
    await backend.open()
    assert (await figures(backend)).clock_offset_secs == 0.0


async def test_no_call_waits(backend: Backend) -> None:
    registry: ModelRegistry = await backend.open()
    await registry.register(sent())
    assert (await figures(backend)).waiting_calls == registry.figures().waiting_calls == 0


@pytest.mark.parametrize("kind", ["remote"])
async def test_another_controller_keeps_the_figures(backend: Backend) -> None:
    registry = await backend.open()
    await registry.register(sent())
    assert registry.figures() == RegistryFigures(None, None, 0, None)
