from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.controller.metrics import instance_counts
from dbgpt_ctl.controller.metrics.counters import ModelNames, StorageCounters
from dbgpt_ctl.controller.metrics.declarations import OTHER
from dbgpt_ctl.controller.metrics.instance_counts import MAX_DELAY_SECS, MAX_REST_SECS, InstanceCounter
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.contract import RegistryHealth
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.model_counts import COUNTS, CountsByModel
from tests.controller.conftest import TIMEOUT
from tests.support.clock import START, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime


pytestmark = pytest.mark.anyio


def key(model: str, port: int = 8001) -> InstanceKey:
    return InstanceKey(model, "127.0.0.1", port)


async def registered(clock: ManualClock, *keys: InstanceKey) -> EmbeddedModelRegistry:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    await registry.open()
    for each in keys:
        await registry.register(Registration(each))
    return registry


def numbers(counter: InstanceCounter) -> Mapping[str, Mapping[str, int]]:
    """What is counted of each label, without zeros."""
    assert counter.current is not None
    return {
        label: {name: number for name, number in zip(COUNTS, row, strict=True) if number}
        for label, row in counter.current.models.items()
    }


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_each_model_in_the_lists_is_counted_by_state() -> None:
    clock = ManualClock()
    registry = await registered(clock, key("a"), key("a", 8002), key("b"), key("gone"))
    await registry.drain(key("a"), reason="a new card")
    clock.advance(10)
    await registry.drain(key("a", 8002))
    await registry.deregister(key("b"))
    await registry.deregister(key("gone"), remove=True)
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames()))
    assert counter.current is None
    await counter.count()
    assert numbers(counter) == {"a": {"healthy": 2, "drained": 2}, "b": {"deregistered": 1}}
    assert counter.current is not None
    assert counter.current.oldest_drain == {"a": START.timestamp()}


async def test_models_without_a_place_are_counted_together() -> None:
    registry = await registered(ManualClock(), key("a"), key("a", 8002), key("b"), key("c"))
    await registry.drain(key("b"))
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames(limit=1)))
    await counter.count()
    assert numbers(counter) == {
        "a": {"healthy": 2, "routable": 2},
        OTHER: {"healthy": 2, "routable": 1, "drained": 1},
    }
    assert counter.current is not None
    assert counter.current.names_in_other == 2
    assert counter.current.oldest_drain == {OTHER: START.timestamp()}


class Registry:
    """A registry of which only the counts and the health matter."""

    forwarder_id = None
    error: Exception | None = None
    state = RegistryHealth(ready=True)

    def health(self) -> RegistryHealth:
        return self.state

    async def count(self) -> CountsByModel:
        if self.error is not None:
            raise self.error
        return CountsByModel()


async def test_a_registry_that_lists_but_cannot_count_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_counts, "EVERY_SECS", 0.0)
    registry: Any = Registry()
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames()))
    async with counter.running():
        await until(lambda: counter.current is not None)
        assert not counter.is_stale
        registry.error = RegistryUnavailable("a table cannot be read")
        await until(lambda: counter.is_stale)
        assert counter.current is None
        registry.error = None
        await until(lambda: not counter.is_stale)


@pytest.mark.parametrize("stale_since", [None, START])
async def test_an_outage_hides_the_counts_at_once_and_not_with_the_next_count(stale_since: datetime | None) -> None:
    registry: Any = Registry()
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames()))
    await counter.count()
    registry.state = RegistryHealth(ready=stale_since is not None, stale_since=stale_since)
    assert (counter.current, counter.is_stale) == (None, stale_since is not None)
    registry.state = RegistryHealth(ready=True)
    assert (counter.current is None, counter.is_stale) == (False, False)


async def test_a_count_that_the_database_delayed_is_not_shown_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rests = 1000.0, []

    class Late(Registry):
        async def count(self) -> CountsByModel:
            nonlocal now
            now += 10.0
            return CountsByModel()

    async def sleep(seconds: float) -> None:
        if seconds:
            rests.append(seconds)
        await real_sleep(0)

    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", sleep)
    registry: Any = Late()
    async with InstanceCounter(lambda: registry, StorageCounters(ModelNames()), monotonic=lambda: now).running():
        while not rests:
            await real_sleep(0)
    assert rests[0] == MAX_REST_SECS


@pytest.mark.parametrize("error", [RegistryUnavailable("the database is away"), ZeroDivisionError()])
async def test_the_next_count_comes_after_one_that_failed(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(instance_counts, "EVERY_SECS", 0.0)
    registry: Any = Registry()
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames()))
    async with counter.running():
        await until(lambda: counter.current is not None)
        registry.error = error
        await until(lambda: counter.current is None)
        registry.error = None
        await until(lambda: counter.current is not None)
    assert ("ZeroDivisionError" in caplog.text) is isinstance(error, ZeroDivisionError)


async def test_a_registry_that_answered_late_and_in_vain_is_asked_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no work to wait for a database that hangs, and when it is back, metrics must not call it stale for long."""
    monkeypatch.setattr(instance_counts, "EVERY_SECS", 0.0)
    now = 1000.0

    class Late(Registry):
        async def count(self) -> CountsByModel:
            nonlocal now
            now += 0.0 if self.error is None else 100.0
            return await super().count()

    registry: Any = Late()
    registry.error = RegistryUnavailable("the database is away")
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames()), monotonic=lambda: now)
    async with counter.running():
        await until(lambda: now > 1000.0)
        registry.error = None
        await until(lambda: counter.current is not None)


async def test_counts_are_not_shown_when_the_next_ones_are_late() -> None:
    now = 1000.0
    registry: Any = Registry()
    counter = InstanceCounter(lambda: registry, StorageCounters(ModelNames()), monotonic=lambda: now)
    await counter.count()
    now += MAX_DELAY_SECS
    assert counter.current is not None
    now += 0.1
    assert counter.current is None


def test_a_name_keeps_its_place_while_there_is_one() -> None:
    names = ModelNames(limit=2)
    assert [names.label_of(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]


def test_of_the_models_that_come_together_those_with_more_instances_go_first() -> None:
    names = ModelNames(limit=2)
    assert names.keep({"a": 1, "b": 1, "c": 5}) == set()
    assert names.placed == {"c", "a"}


def test_names_that_a_stranger_registers_do_not_push_out_a_model_in_the_lists() -> None:
    names = ModelNames(limit=2)
    names.keep({"real": 1, "other-real": 1})
    assert names.keep({"real": 1, "other-real": 1, "aaa": 100, "aab": 100}) == set()
    assert names.placed == {"real", "other-real"}


def test_a_model_in_no_list_gives_its_place_only_when_it_is_needed() -> None:
    names = ModelNames(limit=2)
    names.keep({"gone": 1})
    assert names.keep({"new": 1}) == set()
    assert names.placed == {"gone", "new"}
    assert names.keep({"new": 1, "newer": 1}) == {"gone"}
    assert names.placed == {"new", "newer"}
