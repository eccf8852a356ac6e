"""The database registry beyond the contract: stored facts, other registries on the database, connections, time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState, ModelInstance
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, Backend, only, sent, states

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


def connections(registry: DatabaseModelRegistry) -> int:
    """The number of connections in use."""
    pools: list[Any] = [registry._database.engine.pool, registry._database.readers.pool]
    return sum(pool.checkedout() for pool in pools)


async def test_facts_of_all_kinds_come_back(registry: DatabaseModelRegistry, clock: ManualClock) -> None:
    registered_at = clock.now()
    await registry.register(sent())
    beat_at = clock.advance(1.5)
    await registry.heartbeat(sent())
    deregistered_at = clock.advance(1.000001)
    await registry.deregister(sent().key)
    refused_at = clock.advance(0.1)
    await registry.heartbeat(sent())
    assert (await only(registry)).instance == ModelInstance(
        sent().key,
        1.0,
        True,
        None,
        registered_at,
        beat_at,
        deregistered_at,
        refused_at,
        announced_state=InstanceState.DEREGISTERED,
    )
    await registry.register(sent())
    revived = (await only(registry)).instance
    assert (revived.registered_at, revived.deregistered_at, revived.refused_at) == (registered_at, None, None)
    drained_at = clock.advance(TIMEOUT.total_seconds() + 1)
    await registry.drain(sent().key, reason="a new disk", actor=Actor(ActorKind.OPERATOR, "10.0.0.9"))
    drained = (await only(registry)).instance
    assert drained.drain == DrainFacts(drained_at, "10.0.0.9", "a new disk", None)
    assert (drained.announced_state, drained.flaps) == (InstanceState.UNHEALTHY, 1)


async def test_a_write_through_one_registry_is_listed_by_the_other(
    registry: DatabaseModelRegistry, backend: Backend
) -> None:
    other = await backend.open()
    for port in range(1, 10):
        await registry.register(sent(port=port))
        assert len((await other.list()).entries) == port
        assert await other.deregister(sent(port=port).key)
        assert await states(registry, healthy_only=True) == []


async def test_a_restart_loses_nothing(registry: DatabaseModelRegistry, backend: Backend) -> None:
    await registry.register(sent(host="a", enabled=False))
    await registry.register(sent(host="b"))
    await registry.deregister(sent(host="b").key)
    before = await registry.list()
    await registry.close()
    assert (await (await backend.open()).list()).entries == before.entries
    await registry.open()
    assert (await registry.list()).entries == before.entries


async def test_no_connection_stays_in_use(registry: DatabaseModelRegistry, backend: Backend) -> None:
    await asyncio.gather(*(registry.register(sent(port=port)) for port in range(1, 20)))
    await asyncio.gather(registry.list(), registry.list("qwen@llm"), registry.heartbeat(sent()))
    with pytest.raises(UnicodeEncodeError):
        await registry.heartbeat(sent("\ud800@llm"))
    assert connections(registry) == 0
    await registry.close()
    assert connections(registry) == 0


async def test_one_connection_is_enough(backend: Backend) -> None:
    registry = DatabaseModelRegistry(backend.url, heartbeat_timeout=TIMEOUT, pool_size=1, max_overflow=0)
    async with registry:
        await asyncio.gather(
            *(registry.heartbeat(sent(port=port)) for port in range(1, 50)),
            *(registry.list() for _ in range(5)),
            *(registry.list("qwen@llm") for _ in range(5)),
        )
        assert len((await registry.list()).entries) == 49


async def test_without_a_clock_the_time_is_the_databases(backend: Backend) -> None:
    registry = DatabaseModelRegistry(backend.url, heartbeat_timeout=TIMEOUT)
    async with registry:
        await registry.register(sent())
        first = (await only(registry)).instance
        assert await registry.heartbeat(sent())
        then = (await only(registry)).instance
    assert first.registered_at == first.last_heartbeat <= then.last_heartbeat
    assert then.last_heartbeat.utcoffset() is not None
