"""`inspect_database` on real databases, and what the rules of `ctl db check` conclude from its facts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from dbgpt_ctl.cli.commands.db.check import RULES
from dbgpt_ctl.diagnosis.facts import Finding, diagnose
from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.database.check import LONG_DEAD, DatabaseFacts, inspect_database
from dbgpt_ctl.registry.database.dialects.base import DatabaseTimeouts
from dbgpt_ctl.registry.database.session import Database
from dbgpt_ctl.registry.database.tables.schema import ABSENT, READABLE_BY, SCHEMA_VERSION
from tests.registry.backends import TIMEOUT, Backend, sent
from tests.registry.database.support import dump
from tests.support.clock import START, ManualClock
from tests.support.database_server import PASSWORD, SERVERS
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


class Place:
    """The database of a test."""

    def __init__(self, backend: Backend) -> None:
        if backend.kind == "sqlite":
            (backend.folder / "new").mkdir()
        self.backend = backend
        timeouts = DatabaseTimeouts(io=30, retries=30)
        self.database = Database(backend.url, pool_size=1, max_overflow=1, timeouts=timeouts)

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


def facts_of(place: Place) -> DatabaseFacts:
    clock = place.backend.clock
    before = place.dump()
    facts = inspect_database([place.database], host_clock=clock, clock=clock, timeout=TIMEOUT)
    assert place.dump() == before
    return facts


def findings_of(facts: DatabaseFacts) -> list[Finding]:
    return diagnose(RULES, facts)


def codes(facts: DatabaseFacts) -> list[str]:
    findings = findings_of(facts)
    assert all(text.isprintable() and text for found in findings for text in (found.code, found.summary, found.fix))
    return [finding.code for finding in findings]


async def test_all_is_well(place: Place, backend: Backend) -> None:
    registry = await backend.open()
    for name in ("healthy@llm", "drained@llm", "unhealthy@llm", "deregistered@llm", "removed@llm"):
        await registry.register(sent(name, enabled=name != "drained@llm"))
    backend.clock.advance(LONG_DEAD.total_seconds() - 1)
    await registry.deregister(sent("deregistered@llm").key)
    await registry.deregister(sent("removed@llm").key, remove=True)
    for name in ("healthy@llm", "drained@llm"):
        await registry.heartbeat(sent(name))
    facts = facts_of(place)
    assert findings_of(facts) == []
    assert facts.schema == (SCHEMA_VERSION, READABLE_BY)
    assert facts.instances
    assert facts.instances.states == {"healthy": 2, "unhealthy": 1, "deregistered": 1}
    assert (facts.instances.drained, facts.instances.tombstones) == (1, 1)


async def test_no_tables(place: Place) -> None:
    facts = facts_of(place)
    assert (facts.schema, facts.instances) == (ABSENT, None)
    assert codes(facts) == ["schema-absent"]


@pytest.mark.parametrize(("version", "code"), [(99, "schema-newer"), (0, "schema-absent"), (-1, "schema-older")])
async def test_another_version(place: Place, backend: Backend, version: int, code: str) -> None:
    await backend.open()
    place.execute("DROP TABLE ctl_instance")  # of another version it is not read
    place.execute(f"UPDATE ctl_schema SET version = {version}, readable_by = {version}")
    assert codes(facts_of(place)) == [code]


async def test_a_newer_version_that_this_release_can_use(place: Place, backend: Backend) -> None:
    await backend.open()
    place.execute("UPDATE ctl_schema SET version = 2")
    facts = facts_of(place)
    assert codes(facts) == []
    assert facts.instances


async def test_living_controllers_in_the_order_of_their_starts(place: Place, backend: Backend) -> None:
    await backend.open()
    for name, started, seen in (("b", 1, 40), ("a", 2, 40), ("gone", 0, 0)):
        at, seen_at = (f"{START + timedelta(seconds=secs):%Y-%m-%d %H:%M:%S.%f}" for secs in (started, seen))
        place.execute(f"INSERT INTO ctl_controller VALUES ('{name}', '1', '{name}', 60, 20, '{at}', '{seen_at}')")
    backend.clock.advance(61)
    controllers = facts_of(place).controllers
    assert [record.address for record in controllers or ()] == ["b", "a"]


async def test_the_long_dead(place: Place, backend: Backend) -> None:
    registry = await backend.open()
    for name in ("unhealthy@llm", "deregistered@llm", "removed@llm", "unchecked@llm"):
        await registry.register(sent(name, check_healthy=name != "unchecked@llm"))
    await registry.deregister(sent("deregistered@llm").key)
    await registry.deregister(sent("removed@llm").key, remove=True)
    backend.clock.advance(LONG_DEAD.total_seconds() + 0.001)
    facts = facts_of(place)
    assert codes(facts) == ["long-dead"]
    assert findings_of(facts)[0].summary == (
        "2 instances (such as deregistered@llm/10.0.0.4:8001) unhealthy or deregistered for more than 7 days"
    )


async def test_deregistered_and_still_beating(place: Place, backend: Backend) -> None:
    registry = await backend.open()
    await registry.register(sent())
    await registry.deregister(sent().key)
    assert codes(facts_of(place)) == []
    assert not await registry.heartbeat(sent())
    backend.clock.advance(TIMEOUT.total_seconds())
    assert codes(facts_of(place)) == ["deregistered-beating"]
    backend.clock.advance(0.001)
    assert codes(facts_of(place)) == []


async def test_beats_of_the_future(place: Place, backend: Backend) -> None:
    registry = await backend.open()
    await registry.register(sent())
    backend.clock.advance(-5)
    assert codes(facts_of(place)) == []
    backend.clock.advance(-1)
    facts = facts_of(place)
    assert codes(facts) == ["future-beats"]
    assert "up to 6.0 s ahead" in findings_of(facts)[0].summary


@pytest.mark.parametrize("kind", SERVERS)
async def test_the_clock_of_the_database_against_ours(backend: Backend, place: Place) -> None:
    """The real clock of a database on this machine; a host clock that stands still elsewhere."""
    await backend.open()
    facts = inspect_database([place.database], host_clock=ManualClock(), clock=None, timeout=TIMEOUT)
    (host,) = facts.hosts
    assert host.ahead
    assert host.ahead > timedelta(days=1)
    assert codes(facts) == ["clock-skew"]
    assert "ahead of this host's" in findings_of(facts)[0].summary


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_host_that_is_away_is_a_finding_and_all_of_them_an_error(backend: Backend, place: Place) -> None:
    await backend.open()
    away = Place(Backend(backend.kind, backend.folder, backend.url.set(port=free_port()))).database
    clock = backend.clock
    facts = inspect_database([away, place.database], host_clock=clock, clock=clock, timeout=TIMEOUT)
    assert facts.place == place.database.place
    assert codes(facts) == ["host-unreachable"]
    assert [host.ahead is None for host in facts.hosts] == [True, False]
    with pytest.raises(RegistryUnavailable, match=away.place):
        inspect_database([away], host_clock=clock, clock=clock, timeout=TIMEOUT)
    denied = Place(Backend(backend.kind, backend.folder, backend.url.set(password="wrong"))).database
    with pytest.raises(RegistryUnusable, match=r"Access denied|password authentication failed") as caught:
        inspect_database([denied], host_clock=clock, clock=clock, timeout=TIMEOUT)
    assert PASSWORD not in str(caught.value)
