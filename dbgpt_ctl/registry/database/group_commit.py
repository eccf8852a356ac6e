"""Group commit: calls that arrive together share one transaction (rule 9). It knows neither SQL nor instances."""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Generic, TypeVar

from dbgpt_ctl.errors import RegistryError, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

__all__ = ["GroupCommit", "each_its_own"]

Call = TypeVar("Call")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Call, Answer]):
    """At most one batch is under way; what arrives meanwhile forms the next. A lone call waits for nobody.

    `commit` runs in a thread of `executor`. It takes the calls in order of arrival and returns, when all is stored, one
    answer per call in the same order; an answer that is an exception is raised to its call. When `commit` itself
    raises, every call of the batch gets that. Lives in one event loop.
    `flush_interval`, in seconds, lets a batch linger before it goes; 0 is best unless commits are dear.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Call]], Sequence[Answer | Exception]],
        executor: Executor,
        *,
        max_batch: int = 500,
        flush_interval: float = 0.0,
    ) -> None:
        self._commit = commit
        self._executor = executor
        self._max_batch = max_batch
        self._flush_interval = flush_interval
        self._waiting: deque[tuple[Call, asyncio.Future[Answer]]] = deque()
        self._work: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, call: Call) -> Answer:
        """The call's own answer, after the commit. A caller that is cancelled leaves its call behind: it may or may not
        be stored.
        """
        if self._closed:
            raise RegistryUnavailable("the registry is closed")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        if self._work is None:
            self._work = asyncio.create_task(self._run())
        return await future

    async def close(self) -> None:
        """Takes no more calls and returns when those that were taken are answered."""
        self._closed = True
        if self._work is not None:
            await asyncio.shield(self._work)

    async def _run(self) -> None:
        try:
            while self._waiting:
                if self._flush_interval:
                    await asyncio.sleep(self._flush_interval)
                await self._run_one([self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))])
        finally:
            self._work = None

    async def _run_one(self, batch: list[tuple[Call, asyncio.Future[Answer]]]) -> None:
        calls = [call for call, _ in batch]
        answers: Sequence[Answer | Exception]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._executor, self._commit, calls)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to those who wait
            answers = [error] * len(calls)
        for (_, future), answer in zip(batch, answers, strict=True):
            _resolve(future, answer)
        if isinstance(answers[0], RegistryUnavailable):
            # Those that came meanwhile would only wait as long, one batch after the other, to hear the same.
            while self._waiting:
                _resolve(self._waiting.popleft()[1], answers[0])


def _own(error: Exception) -> Exception:
    """One object raised in many tasks would gather the tracebacks of all; one that cannot be copied has to."""
    try:
        return copy(error)
    except TypeError:
        return error


def _resolve(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(_own(answer))
    else:
        future.set_result(answer)


def each_its_own(
    commit: Callable[[Sequence[Call]], Sequence[Answer | Exception]], calls: Sequence[Call]
) -> Sequence[Answer | Exception]:
    """`commit`, but a call that cannot be stored at all does not fail its neighbours.

    A RegistryError is nobody's fault and everybody's answer; after any other error the halves are tried on their own,
    until the call that causes it stands alone.
    """
    try:
        return commit(calls)
    except RegistryError as error:
        return [error] * len(calls)
    except Exception as error:  # noqa: BLE001 - handed to the call that caused it
        if len(calls) == 1:
            return [error]
    middle = len(calls) // 2
    return [*each_its_own(commit, calls[:middle]), *each_its_own(commit, calls[middle:])]
