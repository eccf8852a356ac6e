"""What the registry in memory tells its observer beyond the contract: of its snapshot, of a sweep and of plain
heartbeats.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.embedded.snapshot import SnapshotFile
from dbgpt_ctl.registry.observer import RegistryObserver
from tests.registry.backends import TIMEOUT, changes, sent
from tests.support.clock import ManualClock
from tests.support.observer import RecordingObserver

if TYPE_CHECKING:
    from pathlib import Path

    from dbgpt_ctl.domain.events import Change

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class NotCalled(RegistryObserver):
    """Any call is an error."""

    def changes_written(self, changes: object) -> None:
        raise AssertionError(changes)

    def committed(self, calls: int, seconds: float) -> None:
        raise AssertionError(calls, seconds)

    def failed(self, kind: str) -> None:
        raise AssertionError(kind)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.json"


def registry_of(
    clock: ManualClock, observer: RegistryObserver, path: Path | None = None, *, max_instances: int = 100
) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(
        clock=clock,
        heartbeat_timeout=TIMEOUT,
        max_instances=max_instances,
        snapshot=SnapshotFile(path) if path else None,
        remove_after=HOUR,
        observer=observer,
    )


async def test_what_a_snapshot_brings_back_is_not_told_again(clock: ManualClock, path: Path) -> None:
    told: list[Change] = []
    for _ in range(3):
        observer = RecordingObserver()
        async with registry_of(clock, observer, path) as registry:
            assert observer.changes == []
            await registry.deregister(sent().key)
            await registry.register(sent())
            told += observer.changes
            assert told == await changes(registry)
            assert registry.figures().instances == 1
    assert len(told) == 5


async def test_a_snapshot_that_cannot_be_written_is_a_failure_until_it_can_be(clock: ManualClock, path: Path) -> None:
    observer = RecordingObserver()
    async with registry_of(clock, observer, path) as registry:
        await registry.register(sent())
        draft = SnapshotFile(path).draft
        draft.mkdir()  # the write cannot replace a folder
        for count in (1, 2):
            with pytest.raises(RegistryUnavailable):
                await registry.drain(sent().key)
            assert observer.failures == ["snapshot"] * count
        draft.rmdir()
        await registry.drain(sent().key)
    assert observer.failures == ["snapshot"] * 2
    assert [change.cause.verb for change in observer.changes] == ["register", "drain"], "it was in force at once"


async def test_what_a_sweep_removes_is_told(clock: ManualClock) -> None:
    observer = RecordingObserver()
    registry = registry_of(clock, observer)
    for port in (1, 2):
        await registry.register(sent(port=port))
    await registry.deregister(sent(port=2).key, remove=True)
    clock.advance(2 * HOUR.total_seconds())
    assert await registry.sweep() == 2
    assert [change.cause.verb for change in observer.changes[3:]] == ["expire", "prune"], "a tombstone goes in silence"
    assert observer.changes == await changes(registry)
    assert registry.figures().instances == 0


async def test_a_tombstone_that_makes_room_does_not_count_any_longer(clock: ManualClock) -> None:
    registry = registry_of(clock, RecordingObserver(), max_instances=2)
    for port in (1, 2):
        await registry.register(sent(port=port))
    await registry.deregister(sent(port=1).key, remove=True)
    assert registry.figures().instances == 2
    clock.advance(HOUR.total_seconds())
    await registry.register(sent(port=3))
    assert registry.figures().instances == 2


async def test_a_plain_heartbeat_calls_no_observer(clock: ManualClock) -> None:
    registry = registry_of(clock, NotCalled())
    with pytest.raises(AssertionError):
        await registry.register(sent())
    for _ in range(3):
        clock.advance(1)
        assert await registry.heartbeat(sent())
        await registry.list()
