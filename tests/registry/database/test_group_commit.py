"""Batches: which calls share one, which answer each call gets, and which calls a failure reaches."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.database.group_commit import SIBLINGS, Batcher, isolating_failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.anyio


class CommitRecorder:
    """A commit that notes its batches. While `gate` is closed it does not return."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begins = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.under_way = 0
        self.most_under_way = 0

    def __call__(self, calls: Sequence[int]) -> list[int | Exception]:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.batches.append(list(calls))
        self.begins.release()
        assert self.gate.wait(30)
        self.under_way -= 1
        if 13 in calls:
            raise RegistryUnavailable("the database is away")
        return [ValueError(f"{call} is negative") if call < 0 else call * 10 for call in calls]


@pytest.fixture
def commits() -> CommitRecorder:
    return CommitRecorder()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def group(commits: CommitRecorder, executor: ThreadPoolExecutor) -> Batcher[int, int]:
    return Batcher(commits, executor, max_batch=5)


async def begun(commits: CommitRecorder) -> None:
    """Returns once one more batch has begun."""
    assert await asyncio.to_thread(commits.begins.acquire, timeout=30)


async def test_a_call_alone_does_not_wait(group: Batcher[int, int], commits: CommitRecorder) -> None:
    assert await group.submit(1) == 10
    assert await group.submit(2) == 20
    assert commits.batches == [[1], [2]]


async def test_calls_that_arrive_meanwhile_form_the_next_batch(
    group: Batcher[int, int], commits: CommitRecorder
) -> None:
    commits.gate.clear()
    first = asyncio.create_task(group.submit(1))
    await begun(commits)
    rest = [asyncio.create_task(group.submit(call)) for call in (4, 2, 3)]
    await asyncio.sleep(0)
    assert not first.done()
    commits.gate.set()
    assert await asyncio.gather(first, *rest) == [10, 40, 20, 30]
    assert commits.batches == [[1], [4, 2, 3]]


async def test_one_batch_at_a_time_and_none_too_large(group: Batcher[int, int], commits: CommitRecorder) -> None:
    calls = [call for call in range(100) if call != 13]
    assert await asyncio.gather(*(group.submit(call) for call in calls)) == [call * 10 for call in calls]
    assert commits.most_under_way == 1
    assert [call for batch in commits.batches for call in batch] == calls
    assert {len(batch) for batch in commits.batches[:-1]} == {5}


async def test_each_call_gets_its_own_answer_or_error(group: Batcher[int, int], commits: CommitRecorder) -> None:
    answers = await asyncio.gather(*(group.submit(call) for call in (1, -2, 3)), return_exceptions=True)
    assert commits.batches == [[1, -2, 3]]
    assert [answers[0], answers[2]] == [10, 30]
    assert isinstance(answers[1], ValueError)


class Jumps:
    """A clock that is a minute later at each call: each batch takes that long."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 60
        return self.time


async def call_again(group: Batcher[int, int], call: int, times: int) -> None:
    for _ in range(times):
        assert await group.submit(call) == call * 10


async def test_callers_that_call_again_at_once_stay_together(
    commits: CommitRecorder, executor: ThreadPoolExecutor
) -> None:
    """Without a delay they part into two halves that take turns."""
    group: Batcher[int, int] = Batcher(commits, executor, max_delay=30, clock=Jumps())
    commits.gate.clear()
    callers = [asyncio.create_task(call_again(group, call, 3)) for call in range(10)]
    await begun(commits)
    callers += [asyncio.create_task(call_again(group, call, 3)) for call in range(20, 30)]
    await asyncio.sleep(0)
    commits.gate.set()
    await asyncio.wait_for(asyncio.gather(*callers[:10]), 20)
    assert [len(batch) for batch in commits.batches] == [10, 20, 20]
    for caller in callers[10:]:
        caller.cancel()  # its last batch waits for the first ten, who have ended


async def test_a_batch_waits_for_absent_callers_at_most_for_the_delay(
    commits: CommitRecorder, executor: ThreadPoolExecutor
) -> None:
    group: Batcher[int, int] = Batcher(commits, executor, max_delay=0.01, clock=Jumps())
    await asyncio.gather(*(group.submit(call) for call in range(20, 40)))
    assert await asyncio.wait_for(group.submit(7), 20) == 70
    assert [len(batch) for batch in commits.batches] == [20, 1]


async def test_the_callers_of_a_small_batch_are_not_awaited(
    commits: CommitRecorder, executor: ThreadPoolExecutor
) -> None:
    group: Batcher[int, int] = Batcher(commits, executor, max_delay=3600, clock=Jumps())
    commits.gate.clear()
    first = [asyncio.create_task(group.submit(call)) for call in range(SIBLINGS - 1)]
    await begun(commits)
    last = asyncio.create_task(group.submit(99))
    await asyncio.sleep(0)
    commits.gate.set()
    assert await asyncio.wait_for(asyncio.gather(*first, last), 20) == [
        *(call * 10 for call in range(SIBLINGS - 1)),
        990,
    ]


async def test_a_failed_commit_fails_its_batch_and_no_other(group: Batcher[int, int]) -> None:
    first, second = await asyncio.gather(group.submit(13), group.submit(1), return_exceptions=True)
    assert isinstance(first, RegistryUnavailable)
    assert isinstance(second, RegistryUnavailable)
    assert first is not second
    assert str(first) == str(second) == "the database is away"
    assert first.retry_after == 5
    assert await group.submit(1) == 10


async def test_a_cancelled_caller_does_not_harm_its_batch(group: Batcher[int, int], commits: CommitRecorder) -> None:
    commits.gate.clear()
    calls = [asyncio.create_task(group.submit(1))]
    await begun(commits)
    calls += [asyncio.create_task(group.submit(call)) for call in (2, 3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[1].cancel()
    commits.gate.set()
    assert await calls[2] == 30
    assert [call.cancelled() for call in calls] == [True, True, False]
    assert await group.submit(4) == 40


async def test_close_answers_accepted_calls_and_accepts_no_more(
    group: Batcher[int, int], commits: CommitRecorder
) -> None:
    commits.gate.clear()
    calls = [asyncio.create_task(group.submit(call)) for call in range(1, 8)]
    await begun(commits)
    closing = asyncio.create_task(group.close())
    await asyncio.sleep(0)
    with pytest.raises(RegistryUnavailable, match="closed"):
        await group.submit(99)
    assert not closing.done()
    commits.gate.set()
    await closing
    assert await asyncio.gather(*calls) == [call * 10 for call in range(1, 8)]
    await group.close()


def test_a_call_that_fails_does_not_fail_the_others() -> None:
    tried: list[list[int]] = []

    def commit(calls: Sequence[int]) -> list[int]:
        tried.append(list(calls))
        if -1 in calls:
            raise ValueError("-1 cannot be stored")
        return [call * 10 for call in calls]

    answers = isolating_failures(commit, [1, 2, 3, -1, 5, 6, 7])
    assert [answer for answer in answers if not isinstance(answer, Exception)] == [10, 20, 30, 50, 60, 70]
    assert isinstance(answers[3], ValueError)
    assert [calls for calls in tried if -1 not in calls] == [[1, 2], [3], [5, 6, 7]] or len(tried) < 8


def test_an_absent_database_is_tried_once_per_batch() -> None:
    tried = 0

    def commit(_: Sequence[int]) -> list[int]:
        nonlocal tried
        tried += 1
        raise RegistryUnavailable("the database is away")

    answers = isolating_failures(commit, [1, 2, 3])
    assert [type(answer) for answer in answers] == [RegistryUnavailable] * 3
    assert tried == 1
