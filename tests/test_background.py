"""A task that runs as long as a block lasts."""

from __future__ import annotations

import asyncio

import pytest

from dbgpt_ctl.background import BackgroundTasks, background_task
from dbgpt_ctl.errors import RegistryUnavailable


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


def test_it_runs_until_the_block_is_left() -> None:
    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - both blocks are the subject
            async with background_task(asyncio.sleep(3600), "of a block"):
                assert "of a block" in names()
                raise ZeroDivisionError
        assert "of a block" not in names()

    asyncio.run(scenario())


def test_its_error_does_not_end_the_block() -> None:
    async def fail() -> None:
        raise ValueError

    async def scenario() -> str:
        async with background_task(fail(), "fails"):
            while "fails" in names():
                await asyncio.sleep(0)
            return "served on"

    assert asyncio.run(scenario()) == "served on"


def test_who_waits_for_its_end_can_be_cancelled() -> None:
    """A cancellation from outside goes on, and is not taken for that of the task."""

    async def scenario() -> bool:
        async def serve() -> None:
            async with background_task(asyncio.sleep(3600), "of a block"):
                await asyncio.sleep(3600)

        serving = asyncio.create_task(serve())
        await asyncio.sleep(0)
        serving.cancel()
        await asyncio.wait([serving])
        return serving.cancelled() and "of a block" not in names()

    assert asyncio.run(scenario())


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
