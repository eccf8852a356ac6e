"""What the database registry does beyond the contract: how it shares work, what it costs, what others see."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.instance import InstanceState, ModelInstance
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.schema import INSTANCES
from tests.registry.backends import TIMEOUT, Backend, only, sent, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


@pytest.fixture
async def registry(backend: Backend) -> DatabaseModelRegistry:
    registry = await backend.open()
    assert isinstance(registry, DatabaseModelRegistry)
    return registry


@pytest.fixture
def statements(registry: DatabaseModelRegistry) -> Iterator[list[str]]:
    """What is sent to the database, but for the ends of transactions."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            seen.append(statement)

    engines = registry._database.engine, registry._database.readers
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def connections(registry: DatabaseModelRegistry) -> int:
    """Those that are in use."""
    pools: list[Any] = [registry._database.engine.pool, registry._database.readers.pool]
    return sum(pool.checkedout() for pool in pools)


def test_columns_are_the_facts_in_their_order() -> None:
    facts = [each.name for each in fields(ModelInstance) if each.name != "key"]
    assert [column.name for column in INSTANCES.columns] == ["model_name", "host", "port", *facts]


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
    assert (drained.drained_at, drained.drained_by, drained.drain_reason) == (drained_at, "10.0.0.9", "a new disk")
    assert (drained.announced_state, drained.flaps) == (InstanceState.UNHEALTHY, 1)


async def test_what_one_acknowledges_the_other_lists(registry: DatabaseModelRegistry, backend: Backend) -> None:
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


async def test_a_beat_costs_one_statement_however_many_there_are(
    registry: DatabaseModelRegistry, statements: list[str]
) -> None:
    everybody = [sent(port=port) for port in range(1, 90)]
    await asyncio.gather(*(registry.register(each) for each in everybody))
    statements.clear()
    assert all(await asyncio.gather(*(registry.heartbeat(each) for each in everybody)))
    assert len(statements) == 1
    statements.clear()
    assert await registry.heartbeat(everybody[7])
    assert len(statements) == 1
    assert statements[0].startswith("UPDATE ctl_instance SET last_heartbeat")


async def test_a_register_that_brings_no_news_is_a_beat(
    registry: DatabaseModelRegistry, statements: list[str], clock: ManualClock
) -> None:
    everybody = [sent(port=port, weight=0.3, prompt_template="vicuna") for port in range(1, 50)]
    await asyncio.gather(*(registry.register(each) for each in everybody))
    before = (await registry.list()).entries
    now = clock.advance(1)
    statements.clear()
    await asyncio.gather(*(registry.register(each) for each in everybody), *(map(registry.heartbeat, everybody)))
    assert len(statements) == 1
    after = (await registry.list()).entries
    assert [each.instance for each in after] == [replace(each.instance, last_heartbeat=now) for each in before]


@pytest.mark.parametrize(("weight", "prompt_template"), [(2.0, "vicuna"), (0.3, None), (0.3, "Vicuna")])
async def test_a_register_that_brings_news_is_stored(
    registry: DatabaseModelRegistry, weight: float, prompt_template: str | None
) -> None:
    await registry.register(sent(weight=0.3, prompt_template="vicuna"))
    await asyncio.gather(
        registry.register(sent(weight=0.3, prompt_template="vicuna")),
        registry.register(sent(weight=weight, prompt_template=prompt_template)),
        registry.heartbeat(sent()),
    )
    facts = (await only(registry)).instance
    assert (facts.weight, facts.prompt_template) == (weight, prompt_template)


async def test_one_refused_beat_does_not_make_the_others_dear(
    registry: DatabaseModelRegistry, statements: list[str], clock: ManualClock
) -> None:
    everybody = [sent(port=port) for port in range(1, 50)]
    await asyncio.gather(*(registry.register(each) for each in everybody))
    await registry.deregister(everybody[7].key)
    now = clock.advance(1)
    statements.clear()
    answers = await asyncio.gather(*(registry.heartbeat(each) for each in everybody))
    assert [index for index, answer in enumerate(answers) if not answer] == [7]
    locked = [each for each in statements if each.startswith("SELECT") and "weight" in each]
    assert len(locked) == 1
    assert "IN" not in locked[0].partition("WHERE")[2]
    assert {each.instance.last_heartbeat for each in (await registry.list(healthy_only=True)).entries} == {now}


async def test_calls_of_all_kinds_share_a_transaction_in_order(
    registry: DatabaseModelRegistry, statements: list[str]
) -> None:
    await registry.register(sent(host="known"))
    statements.clear()
    known, new = sent(host="known"), sent(host="new")
    answers = await asyncio.gather(
        registry.heartbeat(known),
        registry.deregister(new.key),
        registry.heartbeat(new),
        registry.deregister(known.key),
        registry.heartbeat(known),
        registry.deregister(new.key, remove=True),
        registry.heartbeat(new),
        registry.register(new),
        registry.heartbeat(new),
        registry.heartbeat(sent(host="newer")),
    )
    assert answers == [True, False, True, True, False, True, False, None, True, True]
    assert len([each for each in statements if each.startswith("INSERT INTO ctl_instance")]) == 1
    assert len([each for each in statements if each.startswith("INSERT INTO ctl_event")]) == 1
    assert [reference for reference, _ in await states(registry, healthy_only=True)] == [
        "qwen@llm/new:8001",
        "qwen@llm/newer:8001",
    ]


@pytest.mark.parametrize("verb", ["register", "deregister"])
async def test_facts_are_locked_before_they_are_judged(
    registry: DatabaseModelRegistry, backend: Backend, verb: str, request: pytest.FixtureRequest
) -> None:
    await registry.register(sent())
    free: list[bool] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE ctl_instance"):
            free.append(may_write(backend, request))

    event.listen(registry._database.engine, "before_cursor_execute", look)
    await (registry.register(sent(weight=2.0)) if verb == "register" else registry.deregister(sent().key))
    assert free
    assert not any(free)
    assert may_write(backend, request)


def may_write(backend: Backend, request: pytest.FixtureRequest) -> bool:
    """Whether another connection could lock the row of `sent()` now."""
    if backend.kind == "mariadb":
        row = "model_name = 'qwen@llm' AND host = '10.0.0.4' AND port = 8001"
        unlocked = f"SELECT host FROM ctl_instance WHERE {row} FOR UPDATE SKIP LOCKED"
        return bool(request.getfixturevalue("mariadb").execute(unlocked))
    with closing(sqlite3.connect(str(backend.url.database), timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


async def test_rows_that_change_alike_share_a_statement(registry: DatabaseModelRegistry, statements: list[str]) -> None:
    everybody = [sent(port=port) for port in range(1, 50)]
    await asyncio.gather(*(registry.register(each) for each in everybody))
    statements.clear()
    await asyncio.gather(*(registry.register(sent(port=each.key.port, weight=2.0)) for each in everybody))
    assert len([each for each in statements if "SET weight" in each]) == 1
    statements.clear()
    await asyncio.gather(*(registry.deregister(each.key) for each in everybody))
    assert len([each for each in statements if each.startswith("UPDATE ctl_instance")]) == 1


async def test_a_bad_call_does_not_fail_its_neighbours(registry: DatabaseModelRegistry) -> None:
    unstorable = sent("\ud800@llm")
    answers = await asyncio.gather(
        registry.heartbeat(sent(host="a")),
        registry.heartbeat(unstorable),
        registry.register(sent(host="b")),
        return_exceptions=True,
    )
    assert [answers[0], answers[2]] == [True, None]
    assert isinstance(answers[1], Exception)
    assert len((await registry.list()).entries) == 2
    assert registry.health().ready


async def test_lists_that_wait_together_share_one_answer(
    registry: DatabaseModelRegistry, statements: list[str]
) -> None:
    await registry.register(sent("a@llm"))
    await registry.register(sent("b@llm"))
    statements.clear()
    answers = await asyncio.gather(
        *(registry.list("a@llm") for _ in range(10)),
        *(registry.list("b@llm", healthy_only=True) for _ in range(10)),
        *(registry.list("none@llm") for _ in range(10)),
    )
    assert len({id(answer) for answer in answers}) == 3
    assert [[entry.instance.key.model_name for entry in answer.entries] for answer in answers[::10]] == [
        ["a@llm"],
        ["b@llm"],
        [],
    ]
    assert len([each for each in statements if "FROM ctl_instance" in each]) == 1


async def test_the_limit_holds_within_a_batch(backend: Backend) -> None:
    registry = await backend.open(max_instances=10)
    answers = await asyncio.gather(
        *(registry.register(sent(port=port)) for port in range(1, 31)), return_exceptions=True
    )
    assert [answer is None for answer in answers] == [True] * 10 + [False] * 20
    assert len((await registry.list()).entries) == 10


async def test_the_limit_is_counted_again_after_a_while(backend: Backend, clock: ManualClock) -> None:
    one, other = await backend.open(max_instances=3), await backend.open(max_instances=3)
    await one.register(sent(port=1))
    await other.register(sent(port=2))
    await other.register(sent(port=3))
    clock.advance(11)
    with pytest.raises(Exception, match="--max-instances"):
        await one.register(sent(port=4))


async def test_a_full_registry_is_not_searched_again_for_every_refusal(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=2)
    assert isinstance(registry, DatabaseModelRegistry)
    await registry.register(sent(port=1))
    await registry.register(sent(port=2))
    await registry.deregister(sent(port=2).key, remove=True)
    dear: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "count(" in statement or "WHERE ctl_instance.removed" in statement:
            dear.append(statement)

    event.listen(registry._database.engine, "before_cursor_execute", note)
    for port in range(3, 13):
        with pytest.raises(RegistryFull):
            await registry.register(sent(port=port))
    assert len(dear) == 1
    clock.advance(TIMEOUT.total_seconds() + 1)
    await registry.register(sent(port=3))


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


async def test_without_a_clock_the_database_tells_the_time(backend: Backend) -> None:
    registry = DatabaseModelRegistry(backend.url, heartbeat_timeout=TIMEOUT)
    async with registry:
        await registry.register(sent())
        first = (await only(registry)).instance
        assert await registry.heartbeat(sent())
        then = (await only(registry)).instance
    assert first.registered_at == first.last_heartbeat <= then.last_heartbeat
    assert then.last_heartbeat.utcoffset() is not None
