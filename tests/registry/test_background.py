"""Background tasks go on, whatever fails."""

from __future__ import annotations

import asyncio

import pytest

from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.background import BackgroundTasks

pytestmark = pytest.mark.anyio
LONG = 3600.0


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(count: int, done: list[int]) -> None:
    async with asyncio.timeout(10):
        while len(done) < count:
            await asyncio.sleep(0)


@pytest.fixture
def done() -> list[int]:
    return []


async def test_work_is_repeated_until_the_tasks_stop(done: list[int]) -> None:
    async def work() -> None:
        done.append(1)

    tasks = BackgroundTasks()
    tasks.every(0, work, name="work")
    await until(3, done)
    await tasks.stop()
    count = len(done)
    await turns()
    assert len(done) == count


async def test_work_rests_between_two_times_and_may_begin_later(done: list[int]) -> None:
    async def work() -> None:
        done.append(1)

    tasks = BackgroundTasks()
    tasks.every(LONG, work, name="at once")
    tasks.every(0, work, name="later", first_after_secs=LONG)
    await turns()
    assert done == [1]
    await tasks.stop()


@pytest.mark.parametrize("error", [RegistryUnavailable("away"), RuntimeError("a bug")])
async def test_a_failure_ends_no_task_and_is_tried_again_soon(
    done: list[int], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        done.append(1)
        if len(done) < 3:
            raise error

    tasks = BackgroundTasks()
    tasks.every(LONG, work, name="a test", retry_secs=0)
    await until(3, done)
    await turns()
    assert len(done) == 3, "after a success it rests"
    await tasks.stop()
    logged = [record.getMessage() for record in caplog.records]
    assert logged == ([] if isinstance(error, RegistryUnavailable) else ["background task 'a test' failed"] * 2)


async def test_work_follows_an_event_and_goes_on_after_a_failure(done: list[int]) -> None:
    async def work() -> None:
        done.append(1)
        raise RegistryUnavailable("away")

    tasks, event = BackgroundTasks(), asyncio.Event()
    tasks.after(event, work, name="work")
    await turns()
    assert done == []
    for count in (1, 2):
        event.set()
        await until(count, done)
    assert not event.is_set()
    await tasks.stop()
