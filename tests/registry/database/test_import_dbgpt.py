"""From DB-GPT's table to ours, on both kinds of database."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.domain.lifecycle import state_of
from dbgpt_ctl.errors import RegistryFull, RegistryUnusable
from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts
from dbgpt_ctl.registry.database.import_dbgpt import (
    BATCH,
    PAGE,
    Candidate,
    DbgptTable,
    Imported,
    import_instances,
    new_candidates,
    read_dbgpt_table,
)
from dbgpt_ctl.registry.database.schema import ABSENT, SCHEMA_VERSION, schema_version
from dbgpt_ctl.registry.database.session import Database
from dbgpt_ctl.registry.database.tables.instances import listed_rows
from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime, read_pulse
from tests.registry.backends import TIMEOUT, Backend, only, sent, states
from tests.support.dbgpt_table import create_dbgpt_table, dump, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from dbgpt_ctl.domain.instance import ModelInstance

pytestmark = pytest.mark.anyio

LONG = "m" * 124 + "@llm"


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


class Place:
    """The database of a test, and what an import of its DB-GPT table does."""

    def __init__(self, backend: Backend) -> None:
        if backend.kind == "sqlite":
            (backend.folder / "new").mkdir()
        self.backend = backend
        self.database = self.connect()

    def connect(self) -> Database:
        """Another program that uses the same database."""
        return Database(
            self.backend.url,
            pool_size=1,
            max_overflow=1,
            timeouts=DatabaseTimeouts(io=30, retries=30),
        )

    def fill(self, *rows: dict[str, Any]) -> None:
        create_dbgpt_table(self.database.engine, rows)

    def read(self) -> DbgptTable:
        source = self.database.read(read_dbgpt_table)
        assert source is not None
        return source

    def import_(self, *, dry_run: bool = False, most: int = 100, timeout: timedelta = TIMEOUT) -> Imported:
        return import_instances(
            self.database, self.read(), clock=self.backend.clock, timeout=timeout, max_instances=most, dry_run=dry_run
        )

    def dump(self) -> dict[str, list[Any]]:
        return self.database.read(dump)

    def execute(self, statement: str) -> None:
        with self.database.engine.begin() as connection:
            connection.execute(text(statement))


@pytest.fixture
def place(backend: Backend) -> Iterator[Place]:
    place = Place(backend)
    yield place
    place.database.dispose()


def counts(imported: Imported) -> tuple[int, int, int, int, int]:
    """Rows, duplicates, refused, known, taken."""
    source = imported.source
    return source.rows, source.duplicates, len(source.refused), imported.known, imported.taken


async def facts(backend: Backend) -> dict[InstanceKey, ModelInstance]:
    registry = await backend.open()
    return {entry.instance.key: entry.instance for entry in (await registry.list()).entries}


async def test_instances_are_imported_as_they_are(place: Place, backend: Backend) -> None:
    place.fill(
        row("qwen@llm", weight=0.5, prompt_template="chatml"),
        row("glm@llm", enabled=False),
        row("bge@text2vec", check_healthy=False),
        row("空 格/😀@llm", "[::1]"),
        row(LONG, "h" * 128, 65535, prompt_template="p" * 128),
    )
    assert counts(place.import_()) == (5, 0, 0, 0, 5)
    now = backend.clock.now()
    found = await facts(backend)
    assert {
        (instance.registered_at, instance.last_heartbeat, instance.deregistered_at) for instance in found.values()
    } == {(now, now, None)}
    assert {
        key: (instance.weight, instance.check_healthy, instance.drain is None, instance.prompt_template)
        for key, instance in found.items()
    } == {
        ("qwen@llm", "10.0.0.4", 8001): (0.5, True, True, "chatml"),
        ("glm@llm", "10.0.0.4", 8001): (1.0, True, False, None),
        ("bge@text2vec", "10.0.0.4", 8001): (1.0, False, True, None),
        ("空 格/😀@llm", "[::1]", 8001): (1.0, True, True, None),
        (LONG, "h" * 128, 65535): (1.0, True, True, "p" * 128),
    }


async def test_of_duplicates_the_row_with_the_newest_heartbeat_is_kept(place: Place, backend: Backend) -> None:
    place.fill(
        row("beat@llm", beat=9, weight=1),
        row("beat@llm", beat=10, weight=2),
        row(" beat@llm ", beat=8, weight=3),
        row("never@llm", beat=-99999, weight=2, healthy=False),
        row("never@llm", beat=None, weight=1),
        row("modified@llm", " 10.0.0.4", beat=None, weight=2),
        row("modified@llm", beat=None, weight=1, gmt_modified=None),
        row("twice@llm", weight=1),
        row("twice@llm", weight=2),
    )
    imported = place.import_()
    assert counts(imported) == (9, 5, 0, 0, 4)
    weights = {key.model_name: instance.weight for key, instance in (await facts(backend)).items()}
    assert weights == {"beat@llm": 2, "never@llm": 2, "modified@llm": 2, "twice@llm": 2}
    assert imported.states[InstanceState.UNHEALTHY] == 1


async def test_twins_in_case_and_accents_are_two(place: Place, backend: Backend) -> None:
    place.fill(*(row(name) for name in ("qwen@llm", "Qwen@llm", "qwén@llm", "straße@llm", "strasse@llm")))
    assert counts(place.import_()) == (5, 0, 0, 0, 5)
    assert counts(place.import_()) == (5, 0, 0, 5, 0)


async def test_nulls_take_their_defaults(place: Place, backend: Backend) -> None:
    nulls: dict[str, Any] = dict.fromkeys(
        ("weight", "check_healthy", "healthy", "enabled", "gmt_created", "gmt_modified")
    )
    place.fill(row("qwen@llm", beat=None, **nulls))
    place.import_()
    entry = await only(await backend.open())
    assert (entry.instance.weight, entry.instance.check_healthy, entry.drain) == (1.0, True, None)
    assert entry.state is InstanceState.UNHEALTHY


async def test_rows_that_no_controller_would_accept_are_refused(place: Place, backend: Backend) -> None:
    place.fill(
        row("good@llm", weight=7, beat=1),
        row("two@at@llm"),
        row("none"),
        row("  @llm"),
        row("qwen@llm", "http://10.0.0.4"),
        row("qwen@llm", "   "),
        row("qwen@llm", port=0),
        row("qwen@llm", port=65536),
        row("bell\x07@llm"),
        row("good@llm", beat=2, prompt_template="line\nbreak"),
    )
    imported = place.import_()
    assert counts(imported) == (10, 0, 9, 0, 1)
    assert [(row.id, row.field) for row in imported.source.refused] == [
        (2, "model_name"),
        (3, "model_name"),
        (4, "model_name"),
        (5, "host"),
        (6, "host"),
        (7, "port"),
        (8, "port"),
        (9, "model_name"),
        (10, "prompt_template"),
    ]
    assert "'two@at@llm'" in imported.source.refused[0].reason
    assert all(row.reason.isprintable() for row in imported.source.refused)
    assert (await only(await backend.open())).instance.weight == 7


async def test_the_healthy_are_held_for_one_timeout_and_no_longer(place: Place, backend: Backend) -> None:
    place.fill(row("live@llm"), row("dead@llm"), row("drained@llm", enabled=False))
    place.import_()
    registry = await backend.open()
    backend.clock.advance(TIMEOUT.total_seconds())
    assert await states(registry) == [
        ("dead@llm/10.0.0.4:8001", "healthy"),
        ("drained@llm/10.0.0.4:8001", "healthy,drained"),
        ("live@llm/10.0.0.4:8001", "healthy"),
    ]
    assert await registry.heartbeat(sent("live@llm"))
    assert await registry.heartbeat(sent("drained@llm"))
    backend.clock.advance(0.001)
    assert await states(registry) == [
        ("dead@llm/10.0.0.4:8001", "unhealthy"),
        ("drained@llm/10.0.0.4:8001", "healthy,drained"),
        ("live@llm/10.0.0.4:8001", "healthy"),
    ]


async def test_the_unhealthy_are_never_healthy_by_import(place: Place, backend: Backend) -> None:
    place.fill(row("dead@llm", healthy=False), row("stopped@llm", healthy=False, check_healthy=False))
    imported = place.import_()
    assert imported.states == dict.fromkeys(InstanceState, 0) | {
        InstanceState.UNHEALTHY: 1,
        InstanceState.DEREGISTERED: 1,
    }
    registry = await backend.open()
    assert await states(registry) == [
        ("dead@llm/10.0.0.4:8001", "unhealthy"),
        ("stopped@llm/10.0.0.4:8001", "deregistered"),
    ]
    assert await registry.heartbeat(sent("dead@llm"))
    assert [state for _, state in await states(registry)] == ["healthy", "deregistered"]


@pytest.mark.parametrize("serving", [False, True])
async def test_the_unhealthy_are_not_healthy_when_states_are_held(
    place: Place, backend: Backend, serving: bool
) -> None:
    """Controllers were here long ago, and what they left is held as it was then: it is not to be said of these."""
    place.database.prepare()
    place.database.write(RegistryTime(backend.clock, TIMEOUT).tick)
    backend.clock.advance(99999)
    if serving:
        place.database.write(RegistryTime(backend.clock, TIMEOUT).tick)
    place.fill(row("live@llm"), row("dead@llm", healthy=False))
    place.import_()
    registry = await backend.open()
    wanted = [("dead@llm/10.0.0.4:8001", "unhealthy"), ("live@llm/10.0.0.4:8001", "healthy")]
    assert await states(registry) == wanted
    with place.database.engine.begin() as connection:
        found = {instance.key.model_name: instance for instance in listed_rows(connection, None)}
        now, pulse = read_pulse(connection, backend.clock)
    assert pulse
    hold = pulse.hold(now, TIMEOUT)
    assert hold
    assert [str(state_of(found[name], now, TIMEOUT, hold)) for name in ("dead@llm", "live@llm")] == [
        "unhealthy",
        "healthy",
    ]


async def test_an_import_is_no_event_but_what_comes_after_is(place: Place, backend: Backend) -> None:
    place.fill(
        row("a@llm"),
        row("b@llm", enabled=False),
        row("c@llm", healthy=False),
        row("d@llm", healthy=False, check_healthy=False),
    )
    place.import_()
    assert [str(instance.announced_state) for instance in (await facts(backend)).values()] == [
        "healthy",
        "healthy",
        "unhealthy",
        "deregistered",
    ]
    registry = await backend.open()
    await registry.announce()
    assert (await registry.events()).events == ()
    await registry.heartbeat(sent("c@llm"))
    assert [(event.change.old, event.change.new) for event in (await registry.events()).events] == [
        ("unhealthy", "healthy")
    ]


async def test_known_instances_are_not_changed(place: Place, backend: Backend) -> None:
    names = ["beating@llm", "deregistered@llm", "drained@llm", "removed@llm"]
    registry = await backend.open()
    for name in names:
        await registry.register(sent(name, weight=9, enabled=name != "drained@llm"))
    await registry.deregister(sent("deregistered@llm").key)
    await registry.deregister(sent("removed@llm").key, remove=True)
    before = await states(registry)
    backend.clock.advance(7)
    place.fill(*(row(name) for name in names))
    ours = place.dump()["ctl_instance"]
    assert counts(place.import_()) == (4, 0, 0, 4, 0)
    assert place.dump()["ctl_instance"] == ours
    assert await states(registry) == before


async def test_it_may_be_repeated(place: Place, backend: Backend) -> None:
    place.fill(row("a@llm"), row("b@llm", healthy=False), row("b@llm", beat=-1), row("c"))
    theirs = place.dump()["dbgpt_cluster_registry_instance"]
    assert counts(place.import_()) == (4, 1, 1, 0, 2)
    before = place.dump()
    backend.clock.advance(30)
    assert counts(place.import_()) == (4, 1, 1, 2, 0)
    assert place.dump() == before
    assert before["dbgpt_cluster_registry_instance"] == theirs
    place.execute("INSERT INTO dbgpt_cluster_registry_instance (model_name, host, port) VALUES ('d@llm', 'h', 1)")
    assert counts(place.import_()) == (5, 1, 1, 2, 1)


async def test_a_dry_run_reports_the_same_and_writes_nothing(place: Place, backend: Backend) -> None:
    place.fill(row("a@llm"), row("b@llm", healthy=False), row("b@llm", beat=-1), row("c"))
    before = place.dump()
    expected = place.import_(dry_run=True)
    assert place.dump() == before
    assert list(before) == ["dbgpt_cluster_registry_instance"]
    assert expected == place.import_()
    place.execute("INSERT INTO dbgpt_cluster_registry_instance (model_name, host, port) VALUES ('d@llm', 'h', 1)")
    before = place.dump()
    expected = place.import_(dry_run=True)
    assert counts(expected) == (5, 1, 1, 2, 1)
    assert place.dump() == before
    assert expected == place.import_()


async def test_more_rows_than_a_page_and_a_batch(place: Place, backend: Backend) -> None:
    count = PAGE + BATCH + 1
    place.fill(*(row("qwen@llm", f"10.0.0.{number % 7}", number) for number in range(1, count + 1)))
    assert counts(place.import_(dry_run=True, most=count)) == (count, 0, 0, 0, count)
    assert counts(place.import_(most=count)) == (count, 0, 0, 0, count)
    assert counts(place.import_(most=count)) == (count, 0, 0, count, 0)
    assert len(await facts(backend)) == count


async def test_without_capacity_nothing_is_imported(place: Place, backend: Backend) -> None:
    registry = await backend.open()
    await registry.register(sent("a@llm"))
    place.fill(*(row(f"{name}@llm") for name in "abc"))
    before = place.dump()
    for dry_run in (True, False):
        with pytest.raises(RegistryFull, match="3 instances would be more than the 2 that --max-instances allows"):
            place.import_(most=2, dry_run=dry_run)
    assert place.dump() == before
    assert counts(place.import_(most=3)) == (3, 0, 0, 1, 2)
    assert counts(place.import_(most=1)) == (3, 0, 0, 3, 0)


async def test_a_newer_schema_is_left_alone(place: Place, backend: Backend) -> None:
    place.fill(row("a@llm"))
    place.import_()
    place.execute("UPDATE ctl_schema SET version = 99, readable_by = 98")
    place.execute("DROP TABLE ctl_instance")
    before = place.dump()
    for dry_run in (True, False):
        with pytest.raises(
            RegistryUnusable,
            match=f"version 99, which only .* 98 or newer .* this release has {SCHEMA_VERSION}",
        ):
            place.import_(dry_run=dry_run)
    assert place.dump() == before


async def test_times_that_are_none_are_old(place: Place, backend: Backend) -> None:
    place.fill(row("a@llm", weight=1), row("a@llm", weight=2))
    if backend.kind == "mariadb":
        lenient, none = "SET STATEMENT sql_mode = '' FOR ", "x"
    else:
        lenient, none = "", "0000-00-00 00:00:00"
    place.execute(f"{lenient}UPDATE dbgpt_cluster_registry_instance SET last_heartbeat = '{none}' WHERE id = 2")
    place.import_()
    assert (await only(await backend.open())).instance.weight == 1


async def test_no_table_is_no_source(place: Place, backend: Backend) -> None:
    assert place.database.read(read_dbgpt_table) is None
    assert place.database.read(schema_version) == ABSENT
    candidates = [Candidate(sent(), healthy=True)]
    assert place.database.read(partial(new_candidates, candidates)) == candidates


async def test_two_imports_at_once_share_the_work(place: Place, backend: Backend) -> None:
    count = BATCH * 3 + 7
    place.fill(*(row(f"m{number}@llm") for number in range(count)))
    source = place.read()
    barrier = threading.Barrier(4)
    done: list[Imported] = []

    def run() -> None:
        database = place.connect()
        barrier.wait(30)
        done.append(import_instances(database, source, clock=backend.clock, timeout=TIMEOUT, max_instances=count))
        database.dispose()

    await asyncio.gather(*(asyncio.to_thread(run) for _ in range(4)))
    assert sum(imported.taken for imported in done) == count
    assert {imported.known + imported.taken for imported in done} == {count}
    assert len(await facts(backend)) == count


async def test_controllers_may_serve_meanwhile(place: Place, backend: Backend) -> None:
    """Workers beat and register while they are imported: each is there once, and none of their facts is overwritten."""
    count = BATCH + 50
    place.fill(*(row("qwen@llm", port=port, weight=1) for port in range(1, count + 1)))
    registry = await backend.open(max_instances=count)
    workers = [sent(port=port, weight=2) for port in range(1, count + 1, 3)]

    async def beat() -> None:
        for worker in workers:
            assert await registry.heartbeat(worker)
            await registry.register(worker)

    _, imported = await asyncio.gather(beat(), asyncio.to_thread(place.import_, most=count))
    assert imported.known + imported.taken == count
    entries = (await registry.list()).entries
    assert len(entries) == count
    assert {entry.state for entry in entries} == {InstanceState.HEALTHY}
    assert [entry.instance.key for entry in entries if entry.instance.weight == 2] == [worker.key for worker in workers]
