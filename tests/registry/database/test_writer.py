"""What a batch of commands costs, in which order it is stored, and which commands a plain heartbeat can do."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainRequest
from dbgpt_ctl.domain.lifecycle import Deregister, Drain, Heartbeat, Register, Undrain
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.writer import plain_heartbeats
from tests.registry.backends import TIMEOUT, Backend, only, sent, states
from tests.support.database_server import SERVERS

if TYPE_CHECKING:
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.domain.lifecycle import Command
    from dbgpt_ctl.registry.database.tables.instances import RegisteredValues
    from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


async def test_heartbeats_cost_one_statement_however_many_there_are(
    registry: DatabaseModelRegistry, statements: list[str]
) -> None:
    everybody = [sent(port=port) for port in range(1, 90)]
    await asyncio.gather(*(registry.register(registration) for registration in everybody))
    statements.clear()
    assert all(await asyncio.gather(*(registry.heartbeat(registration) for registration in everybody)))
    assert len(statements) == 1
    statements.clear()
    assert await registry.heartbeat(everybody[7])
    assert len(statements) == 1
    assert statements[0].startswith("UPDATE ctl_instance SET last_heartbeat")


async def test_a_register_that_brings_no_news_is_a_heartbeat(
    registry: DatabaseModelRegistry, statements: list[str], clock: ManualClock
) -> None:
    everybody = [sent(port=port, weight=0.3, prompt_template="vicuna") for port in range(1, 50)]
    await asyncio.gather(*(registry.register(registration) for registration in everybody))
    await registry.register(everybody[0])  # after a batch of new names the next registers are expected to be new, too
    before = (await registry.list()).entries
    now = clock.advance(1)
    statements.clear()
    await asyncio.gather(
        *(registry.register(registration) for registration in everybody), *(map(registry.heartbeat, everybody))
    )
    assert len(statements) == 1
    after = (await registry.list()).entries
    assert [entry.instance for entry in after] == [entry.instance._replace(last_heartbeat=now) for entry in before]


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


async def test_one_refused_heartbeat_does_not_make_the_others_expensive(
    registry: DatabaseModelRegistry, statements: list[str], clock: ManualClock
) -> None:
    everybody = [sent(port=port) for port in range(1, 50)]
    await asyncio.gather(*(registry.register(registration) for registration in everybody))
    await registry.deregister(everybody[7].key)
    now = clock.advance(1)
    statements.clear()
    answers = await asyncio.gather(*(registry.heartbeat(registration) for registration in everybody))
    assert [index for index, answer in enumerate(answers) if not answer] == [7]
    locked = [statement for statement in statements if statement.startswith("SELECT") and "weight" in statement]
    assert len(locked) == 1
    assert " IN " not in locked[0].partition("WHERE")[2]
    assert {entry.instance.last_heartbeat for entry in (await registry.list(healthy_only=True)).entries} == {now}


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
    assert len([statement for statement in statements if statement.startswith("INSERT INTO ctl_instance")]) == 1
    assert len([statement for statement in statements if statement.startswith("INSERT INTO ctl_event")]) == 1
    assert [reference for reference, _ in await states(registry, healthy_only=True)] == [
        "qwen@llm/new:8001",
        "qwen@llm/newer:8001",
    ]


@pytest.mark.parametrize("verb", ["register", "deregister"])
async def test_facts_are_locked_before_they_are_evaluated(
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
    if backend.kind in SERVERS:
        row = "model_name = 'qwen@llm' AND host = '10.0.0.4' AND port = 8001"
        unlocked = f"SELECT host FROM ctl_instance WHERE {row} FOR UPDATE SKIP LOCKED"
        return bool(request.getfixturevalue(backend.kind).execute(unlocked))
    with closing(sqlite3.connect(str(backend.url.database), timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


async def test_rows_that_change_alike_share_a_statement(registry: DatabaseModelRegistry, statements: list[str]) -> None:
    everybody = [sent(port=port) for port in range(1, 50)]
    await asyncio.gather(*(registry.register(registration) for registration in everybody))
    statements.clear()
    await asyncio.gather(
        *(registry.register(sent(port=registration.key.port, weight=2.0)) for registration in everybody)
    )
    assert len([statement for statement in statements if "SET weight" in statement]) == 1
    statements.clear()
    await asyncio.gather(*(registry.deregister(registration.key) for registration in everybody))
    assert len([statement for statement in statements if statement.startswith("UPDATE ctl_instance")]) == 1


async def test_new_names_after_new_names_are_inserted_without_a_look(
    registry: DatabaseModelRegistry, statements: list[str], kind: str
) -> None:
    for start in (1, 50):
        statements.clear()
        await asyncio.gather(*(registry.register(sent(port=port)) for port in range(start, start + 49)))
    verbs = [" ".join(statement.split()[:3]) for statement in statements]
    assert verbs[-1] == "INSERT INTO ctl_event"
    if kind in SERVERS:
        assert verbs[:2] == ["INSERT INTO ctl_instance", "UPDATE ctl_stream SET"]
    events = (await registry.events(after=0)).events
    assert [event.id for event in events] == list(range(1, 99))
    assert len((await registry.list()).entries) == 98


async def test_known_names_after_new_names_are_stored_by_their_facts(
    registry: DatabaseModelRegistry, backend: Backend, clock: ManualClock
) -> None:
    same, changed, drained, deregistered, removed, late = (sent(port=port) for port in range(1, 7))
    for registration in (same, changed, drained, deregistered, removed, late):
        await registry.register(registration)
    await registry.drain(drained.key, reason="a new disk")
    await registry.deregister(deregistered.key)
    await registry.deregister(removed.key, remove=True)
    began, now = clock.now(), clock.advance(1)
    await asyncio.gather(*(registry.register(sent(host="new", port=port)) for port in range(1, 20)))
    last = (await registry.events(limit=1)).last_id
    again = [same, sent(port=2, weight=2.0), drained, deregistered, removed, sent(host="new", port=20)]
    await asyncio.gather(*map(registry.register, again))
    assert await registry.heartbeat(late)
    events = [event.change for event in (await registry.events(after=last)).events]
    assert [(change.key.host, change.key.port, change.old, change.new) for change in events] == [
        ("10.0.0.4", 4, "deregistered", "healthy"),
        ("10.0.0.4", 5, "absent", "healthy"),
        ("new", 20, "absent", "healthy"),
    ]
    listed = {
        entry.instance.key.port: entry
        for entry in (await registry.list()).entries
        if entry.instance.key.host == "10.0.0.4"
    }
    assert {port: entry.instance.registered_at for port, entry in listed.items()} == {
        port: now if port == removed.key.port else began for port in range(1, 7)
    }
    assert {entry.instance.last_heartbeat for entry in listed.values()} == {now}
    assert [port for port, entry in listed.items() if entry.drain] == [drained.key.port]
    assert listed[changed.key.port].instance.weight == 2.0


async def test_a_full_registry_knows_its_instances_also_after_new_names(backend: Backend) -> None:
    registry = await backend.open(max_instances=3)
    known, *new = (sent(port=port) for port in range(1, 6))
    await registry.register(known)
    await registry.register(new[0])
    answers = await asyncio.gather(*map(registry.register, (new[1], new[2], known, new[3])), return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), RegistryFull, type(None), RegistryFull]
    assert [event.id for event in (await registry.events(after=0)).events] == [1, 2, 3]


@pytest.mark.parametrize(
    "text", ["100%", "%s", "%(host0)s", ":host0", "?", "it's", 'a"b', "back\\slash", "`x`", "ü\U0001f600"]
)
async def test_text_of_strangers_is_stored_as_it_is(registry: DatabaseModelRegistry, text: str) -> None:
    actor = Actor(ActorKind.WORKER, text)
    new = [sent(f"{text}@llm", text, port=port, prompt_template=text) for port in (1, 2)]
    await asyncio.gather(*(registry.register(registration, actor=actor) for registration in new))
    facts = [entry.instance for entry in (await registry.list()).entries]
    assert [(instance.key, instance.prompt_template) for instance in facts] == [(each.key, text) for each in new]
    changes = [event.change for event in (await registry.events(after=0)).events]
    assert [(change.key, change.cause.actor) for change in changes] == [(each.key, actor) for each in new]


async def test_a_batch_of_the_longest_texts_is_stored_but_for_a_bad_row(backend: Backend) -> None:
    """Each value differs, takes four bytes a character, and needs quotes."""
    registry = await backend.open(max_instances=1000)

    def longest(number: int, size: int) -> str:
        return f"{number}'%s\\".ljust(size, "\U0001f600")

    new = [
        sent(
            f"{longest(number, 124)}@llm",
            longest(number, 128),
            port=number,
            prompt_template=longest(number, 128),
            weight=1e300 / number,
        )
        for number in range(1, 501)
    ]
    drains = [DrainRequest(longest(number, 255), timedelta(days=number / 2)) for number in range(1, 501)]
    new[250] = sent("\ud800@llm")
    calls = (registry.register(each, drain=drain) for each, drain in zip(new, drains, strict=True))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, Exception)] == [250]
    del new[250], drains[250]
    stored = {entry.instance.key: entry for entry in (await registry.list()).entries}
    assert len(stored) == len(new)
    for each, drain in zip(new, drains, strict=True):
        entry = stored[each.key]
        assert (entry.instance.prompt_template, entry.instance.weight) == (each.prompt_template, each.weight)
        assert entry.drain is not None
        assert entry.drain.reason == drain.reason
    assert [event.id for event in (await registry.events(after=0)).events] == list(range(1, 500))


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


# --- which commands a plain heartbeat can do ---------------------------------------------------------------------


def keys_by_values(*commands: Command) -> dict[RegisteredValues | None, list[InstanceKey]]:
    return {values: list(keys) for values, keys in plain_heartbeats(commands)}


def test_a_heartbeat_is_plain_and_so_is_a_register_with_its_values() -> None:
    one, other = sent(port=1, weight=2.0), sent(port=2, prompt_template="vicuna")
    assert keys_by_values(Heartbeat(one), Heartbeat(one)) == {None: [one.key]}
    assert keys_by_values(Register(one), Heartbeat(one)) == {(2.0, None): [one.key]}
    assert keys_by_values(Heartbeat(one), Register(one)) == {(2.0, None): [one.key]}
    assert keys_by_values(Heartbeat(one), Register(other)) == {None: [one.key], (1.0, "vicuna"): [other.key]}


@pytest.mark.parametrize("command", [Deregister(sent().key), Drain(sent().key), Undrain(sent().key)])
def test_any_other_command_makes_all_commands_of_its_instance_ineligible(command: Command) -> None:
    neighbour = sent(port=2)
    assert keys_by_values(Heartbeat(sent()), command, Heartbeat(neighbour)) == {None: [neighbour.key]}


def test_registers_with_two_values_of_one_instance_are_ineligible() -> None:
    assert keys_by_values(Register(sent(weight=1.0)), Register(sent(weight=2.0)), Heartbeat(sent())) == {}


def test_the_two_largest_groups_are_stored_as_plain_heartbeats() -> None:
    commands = [
        Register(sent(port=port, weight=float(weight)))
        for weight in (1, 2, 3)
        for port in range(100 * weight, 101 * weight + 1)
    ]
    assert [len(keys) for keys in keys_by_values(*commands).values()] == [3, 4]


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
    scans: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "count(" in statement or "WHERE ctl_instance.removed" in statement:
            scans.append(statement)

    event.listen(registry._database.engine, "before_cursor_execute", note)
    for port in range(3, 13):
        with pytest.raises(RegistryFull):
            await registry.register(sent(port=port))
    assert len(scans) == 1
    clock.advance(TIMEOUT.total_seconds() + 1)
    await registry.register(sent(port=3))
