"""Events of the embedded registry over outages, restarts and a clock that steps; drains and the snapshot."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import DRAIN_ENDED, Actor, ActorKind
from dbgpt_ctl.domain.instance import DrainFacts, DrainRequest
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.embedded.snapshot import SnapshotFile
from tests.registry.backends import TIMEOUT, changes, sent, transitions
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from dbgpt_ctl.registry.embedded.snapshot_format import Snapshot

pytestmark = pytest.mark.anyio

KEY = sent().key
ALICE = Actor(ActorKind.OPERATOR, "192.0.2.7")
REGISTER = ("absent", "healthy", "register")
EXPIRE = ("healthy", "unhealthy", "expire")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.json"


def registry_of(clock: ManualClock, path: Path | None = None, stream: str = "one") -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(
        clock=clock,
        heartbeat_timeout=TIMEOUT,
        watch_absence=True,
        snapshot=SnapshotFile(path) if path else None,
        new_stream=lambda: stream,
    )


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def alive(registry: EmbeddedModelRegistry, clock: ManualClock, seconds: int) -> None:
    """Lets time pass while the registry ticks."""
    for _ in range(seconds):
        clock.advance(1)
        registry.tick()


# --- expiry -------------------------------------------------------------------------------------------------------


async def test_a_tick_announces_expiries(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        beat = clock.now()
        await registry.register(sent())
        alive(registry, clock, 60)
        assert await transitions(registry) == [REGISTER]
        alive(registry, clock, 3)
        assert await transitions(registry) == [REGISTER, EXPIRE]
        assert (await changes(registry))[-1].time == beat + TIMEOUT


async def test_heartbeats_postpone_an_expiry(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        for _ in range(10):
            alive(registry, clock, 50)
            await registry.heartbeat(sent())
        beat = clock.now()
        alive(registry, clock, 61)
        assert [change.time for change in (await changes(registry))[1:]] == [beat + TIMEOUT]


async def test_a_tick_checks_a_limited_number_of_instances(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgpt_ctl.registry.embedded.registry.CHECKS_PER_TICK", 2)
    async with registry_of(clock) as registry:
        for port in range(1, 6):
            await registry.register(sent(port=port))
        expired = []
        alive(registry, clock, 60)
        for _ in range(4):
            alive(registry, clock, 1)
            expired.append(len(await transitions(registry)) - 5)
        assert expired == [2, 4, 5, 5]
        assert len({change.time for change in (await changes(registry))[5:]}) == 1


async def test_a_held_instance_that_stays_silent_expires_when_the_hold_ends(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        await registry.register(sent(port=1))
        clock.advance(90)
        registry.tick()
        back = clock.now()
        await registry.heartbeat(sent(port=1))
        alive(registry, clock, 59)
        assert len(await transitions(registry)) == 2
        alive(registry, clock, 1)
        assert [(change.key, change.time) for change in (await changes(registry))[2:]] == [(KEY, back + TIMEOUT)]


async def test_an_expiry_before_the_outage_is_announced_although_others_are_held(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        beat = clock.now()
        await registry.register(sent())
        alive(registry, clock, 30)
        await registry.register(sent(port=1))
        for _ in range(31):  # the registry works, but announces nothing
            clock.advance(1)
            registry._state.tick(clock.now())
        clock.advance(90)
        registry.tick()
        assert [(change.key, change.time) for change in (await changes(registry))[2:]] == [(KEY, beat + TIMEOUT)]


async def test_a_clock_that_is_set_back_postpones_no_expiry(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        alive(registry, clock, 50)
        clock.advance(-3600)
        registry.tick()
        alive(registry, clock, 10)
        assert await transitions(registry) == [REGISTER]
        alive(registry, clock, 1)
        assert await transitions(registry) == [REGISTER, EXPIRE]
        assert (await changes(registry))[-1].time == clock.now() - timedelta(seconds=1)


async def test_a_heartbeat_by_a_clock_that_was_set_back_expires_by_that_clock(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    await registry.register(sent())
    clock.advance(-3600)
    await registry.heartbeat(sent())
    beat = clock.now()
    clock.advance(61)
    await registry.announce()
    assert [change.time for change in (await changes(registry))[1:]] == [beat + TIMEOUT]


# --- what has long been gone --------------------------------------------------------------------------------------


async def test_a_sweep_writes_an_event_for_each_removal(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, remove_after=timedelta(hours=1))
    await registry.register(sent())
    await registry.register(sent(port=1))
    await registry.deregister(sent(port=1).key, remove=True)
    clock.advance(3601)
    assert await registry.sweep() == 2, "the tombstone too"
    last = await changes(registry)
    assert (last[-1].old, last[-1].new, last[-1].cause.verb) == ("unhealthy", "absent", "prune")
    assert (last[-1].cause.actor.kind, last[-1].cause.actor.address) == (ActorKind.HOUSEKEEPING, None)
    assert [change.key for change in last].count(sent(port=1).key) == 2, "no event for a tombstone"


# --- restarts -----------------------------------------------------------------------------------------------------


async def test_a_closed_registry_continues_its_stream(clock: ManualClock, path: Path) -> None:
    async with registry_of(clock, path) as registry:
        await registry.register(sent(), actor=ALICE)
        clock.advance(1.5)
        await registry.drain(KEY, reason="ü🙂", actor=ALICE)
        before = await registry.events()
    clock.advance(3)
    async with registry_of(clock, path, "two") as registry:
        assert await registry.events() == before
        await registry.undrain(KEY)
        after = await registry.events(after=before.last_id)
        assert (after.stream, after.missed, [event.id for event in after.events]) == (
            "one",
            False,
            [before.last_id + 1],
        )


async def test_after_a_kill_the_stream_is_a_new_one(clock: ManualClock, path: Path) -> None:
    """Events after the last snapshot are lost: their numbers must not name other events."""
    registry = registry_of(clock, path)
    async with registry:
        await registry.register(sent())
        await registry.drain(KEY)
        written = read(path)
        before = await registry.events()
    write(path, written)
    async with registry_of(clock, path, "two") as registry:
        page = await registry.events()
        assert (page.stream, page.events) == ("two", before.events)


async def test_a_kill_after_a_restart_is_noticed_too(clock: ManualClock, path: Path) -> None:
    async with registry_of(clock, path) as registry:
        await registry.register(sent())
    async with registry_of(clock, path, "two"):
        written = read(path)
    write(path, written)
    async with registry_of(clock, path, "three") as registry:
        assert (await registry.events()).stream == "three"


async def test_what_was_announced_is_not_announced_again_after_a_restart(clock: ManualClock, path: Path) -> None:
    async with registry_of(clock, path) as registry:
        await registry.register(sent())
        alive(registry, clock, 61)
    async with registry_of(clock, path, "two") as registry:
        alive(registry, clock, 120)
        assert await transitions(registry) == [REGISTER, EXPIRE]
        await registry.heartbeat(sent())
        assert (await transitions(registry))[2:] == [("unhealthy", "healthy", "heartbeat")]


async def test_all_facts_come_back(clock: ManualClock, path: Path) -> None:
    async with registry_of(clock, path) as registry:
        await registry.register(sent(prompt_template="vicuna"))
        alive(registry, clock, 61)
        await registry.heartbeat(sent())
        await registry.drain(KEY, reason="disk", duration=timedelta(hours=1), actor=ALICE)
        await registry.deregister(KEY)
        await registry.heartbeat(sent())
        before = await registry.get(KEY)
        assert before is not None
        assert before.entry.instance.drain is not None
        assert None not in before.entry.instance + before.entry.instance.drain
    async with registry_of(clock, path) as registry:
        assert await registry.get(KEY) == before


# --- drains and the snapshot --------------------------------------------------------------------------------------


async def test_a_drain_is_in_the_snapshot_when_it_returns(clock: ManualClock, path: Path) -> None:
    async with registry_of(clock, path) as registry:
        await registry.register(sent())
        await registry.drain(KEY, reason="disk")
        (stored,) = SnapshotFile(path).read().instances
        assert stored.drain == DrainFacts(clock.now(), None, "disk", None)
        await registry.undrain(KEY)
        assert SnapshotFile(path).read().instances[0].drain is None
        await registry.register(sent(), drain=DrainRequest("disk"))
        assert SnapshotFile(path).read().instances[0].drain == stored.drain


@pytest.mark.parametrize("killed", [False, True])
async def test_a_drain_outlives_the_process_and_ends_when_it_would_have(
    clock: ManualClock, path: Path, *, killed: bool
) -> None:
    since = clock.now()
    drain = DrainFacts(since, "192.0.2.7", "disk", since + timedelta(seconds=100))
    async with registry_of(clock, path) as registry:
        await registry.register(sent(check_healthy=False))
        await registry.drain(KEY, reason="disk", duration=timedelta(seconds=100), actor=ALICE)
        written = read(path)
    if killed:
        write(path, written)
    clock.advance(99)
    async with registry_of(clock, path) as registry:
        (entry,) = (await registry.list()).entries
        assert (entry.drain, entry.routable) == (drain, False)
        written = read(path)
    if killed:
        write(path, written)
    clock.advance(99)  # it ends while no controller runs
    async with registry_of(clock, path) as registry:
        (entry,) = (await registry.list()).entries
        assert (entry.drain, entry.routable) == (None, True)
        registry.tick()
        *_, end = await changes(registry)
        assert (end.time, end.old, end.new, end.drained) == (drain.until, "healthy", "healthy", False)
        assert end.cause == DRAIN_ENDED
    async with registry_of(clock, path) as registry:
        registry.tick()
        assert [verb for _, _, verb in await transitions(registry)] == ["register", "drain", "undrain"]


async def test_the_end_of_a_drain_is_announced_by_the_tick_that_follows(clock: ManualClock) -> None:
    async with registry_of(clock) as registry:
        await registry.register(sent())
        await registry.drain(KEY, duration=timedelta(seconds=90))
        for _ in range(9):  # its heartbeats move its deadline, which stays the end of the drain
            alive(registry, clock, 10)
            await registry.heartbeat(sent())
        assert [verb for _, _, verb in await transitions(registry)] == ["register", "drain", "undrain"]
        assert (await changes(registry))[-1].time == clock.now()
        assert [instance.drain for instance in registry._state.index.instances()] == [None]


class CountingFile(SnapshotFile):
    """Counts its writes."""

    writes = 0

    def write(self, saved: Snapshot) -> None:
        self.writes += 1
        super().write(saved)


async def test_drains_that_wait_share_writes(clock: ManualClock, path: Path) -> None:
    file = CountingFile(path)
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, snapshot=file)
    async with registry:
        for port in range(1, 51):
            await registry.register(sent(port=port))
        await asyncio.gather(*(registry.drain(sent(port=port).key) for port in range(1, 51)))
        assert all(instance.drain for instance in file.read().instances)
        assert file.writes <= 3
        writes = file.writes
        await registry.drain(sent(port=1).key)
        assert file.writes == writes, "it was stored already"


async def test_a_caller_that_gives_up_cancels_no_write_of_others(clock: ManualClock, path: Path) -> None:
    async with registry_of(clock, path) as registry:
        for port in (1, 2):
            await registry.register(sent(port=port))
        calls = [asyncio.create_task(registry.drain(sent(port=port).key)) for port in (1, 2)]
        await asyncio.sleep(0)
        calls[0].cancel()
        assert await calls[1]
        assert all(instance.drain for instance in SnapshotFile(path).read().instances)


async def test_a_drain_that_cannot_be_stored_raises_and_is_in_force(
    clock: ManualClock, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with registry_of(clock, path) as registry:
        await registry.register(sent())
        new = path.with_name(".snapshot.json.new")
        new.mkdir()  # the write cannot replace a folder
        for _ in range(2):  # a repeated one is not stored either
            with pytest.raises(RegistryUnavailable, match=r"in force, but not stored: snapshot .*Is a directory"):
                await registry.drain(KEY)
        assert [entry.drain is not None for entry in (await registry.list()).entries] == [True]
        assert "Is a directory" in str(registry.health().reason)
        new.rmdir()
        assert await registry.drain(KEY)
        assert registry.health().reason is None
        assert SnapshotFile(path).read().instances[0].drain is not None
    assert caplog.text.count("Is a directory") == 1


async def test_it_describes_where_it_stores_its_facts(clock: ManualClock, path: Path) -> None:
    assert registry_of(clock, path).describe().place == str(path)
    assert registry_of(clock, path).describe().durable
    assert not registry_of(clock).describe().durable


async def test_two_registries_have_two_streams() -> None:
    pages = [await EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT).events() for _ in range(2)]
    assert pages[0].stream != pages[1].stream
