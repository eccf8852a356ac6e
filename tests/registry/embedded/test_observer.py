"""What the registry in memory tells its observer beyond the contract: of a sweep and of plain heartbeats."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dbgpt_ctl.registry.contract import RegistryObserver
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import TIMEOUT, changes, sent
from tests.support.clock import ManualClock
from tests.support.observer import RecordingObserver

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


def registry_of(clock: ManualClock, observer: RegistryObserver, *, max_instances: int = 100) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(
        clock=clock,
        heartbeat_timeout=TIMEOUT,
        max_instances=max_instances,
        remove_after=HOUR,
        observer=observer,
    )


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
