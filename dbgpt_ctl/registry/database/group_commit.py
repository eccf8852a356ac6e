"""Group commit: calls that arrive together share one transaction (rule 9). It knows neither SQL nor instances."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from copy import copy
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from dbgpt_ctl.errors import RegistryError, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

Call = TypeVar("Call")
Answer = TypeVar("Answer")
SIBLINGS = 8
"""After a batch of fewer calls the next batch does not wait: there is little to gain."""
MAX_DELAY_SECS = 0.005
"""The longest wait for the callers of the batch before: about the time of a commit."""
DELAY_SHARE = 0.5
"""The same as a share of the time that their batch took."""


class Batcher(Generic[Call, Answer]):
    """Runs calls in batches, at most one at a time: calls that arrive meanwhile form the next batch. A call that
    arrives alone does not wait for others.

    A batch waits for the callers of the batch before, if there were many, for at most `max_delay` seconds: as soon as
    all have called again, it begins. Without that, callers that call again at once, such as heartbeats over 32
    connections, part into two halves that take turns. One transaction for all takes hardly longer than one for a half:
    they are answered a third faster, for two thirds of the CPU time. PostgreSQL calls this `commit_delay`.

    `run_batch` runs in a thread of `executor`. It takes the calls in order of arrival and returns, when all are done,
    one answer per call in the same order; an answer that is an exception is raised to its call. When `run_batch` itself
    raises, every call of the batch gets that error. A batcher lives in one event loop.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[Call]], Sequence[Answer | Exception]],
        executor: Executor,
        *,
        max_batch: int = 500,
        max_delay: float = MAX_DELAY_SECS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._run_batch = run_batch
        self._executor = executor
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._clock = clock
        self._expected = 0
        """So many calls wait when all callers are back."""
        self._all_back = asyncio.Event()
        self._waiting: deque[tuple[Call, asyncio.Future[Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, call: Call) -> Answer:
        """The call's own answer, after its batch is done. A call whose caller is cancelled may or may not be done."""
        if self._closed:
            raise RegistryUnavailable("the registry is closed")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        elif len(self._waiting) >= self._expected:
            self._all_back.set()
        return await future

    @property
    def waiting(self) -> int:
        """How many calls wait for the batch after the one that runs."""
        return len(self._waiting)

    async def close(self) -> None:
        """Accepts no more calls and returns when the accepted ones are answered."""
        self._closed = True
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
                began = self._clock()
                await self._run_one(batch)
                if len(batch) >= SIBLINGS:
                    await self._wait_for_callers(
                        len(batch), min(self._max_delay, DELAY_SHARE * (self._clock() - began))
                    )
        finally:
            self._task = None

    async def _wait_for_callers(self, answered: int, seconds: float) -> None:
        """Waits until as many calls wait as if each of the `answered` callers had called again."""
        self._expected = min(len(self._waiting) + answered, self._max_batch)
        self._all_back.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_back.wait()

    async def _run_one(self, batch: list[tuple[Call, asyncio.Future[Answer]]]) -> None:
        calls = [call for call, _ in batch]
        answers: Sequence[Answer | Exception]
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._executor, self._run_batch, calls)
        except Exception as error:  # noqa: BLE001 - any error belongs to the callers that wait
            answers = [error] * len(calls)
        for (_, future), answer in zip(batch, answers, strict=True):
            _resolve(future, answer)
        if isinstance(answers[0], RegistryUnavailable):
            # Calls that came meanwhile would wait as long, one batch after the other, to get the same error.
            while self._waiting:
                _resolve(self._waiting.popleft()[1], answers[0])


def _resolve(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(_copy_of(answer))
    else:
        future.set_result(answer)


def _copy_of(error: Exception) -> Exception:
    """One object raised in many tasks would gather the tracebacks of all; an error that cannot be copied has to."""
    try:
        return copy(error)
    except TypeError:
        return error


def isolating_failures(
    run_batch: Callable[[Sequence[Call]], Sequence[Answer | Exception]], calls: Sequence[Call]
) -> Sequence[Answer | Exception]:
    """`run_batch`, but a call that cannot be stored at all does not fail the other calls of its batch.

    A RegistryError is not the fault of one call: all calls get it. After any other error each half is run on its own,
    until the call that causes the error stands alone.
    """
    try:
        return run_batch(calls)
    except RegistryError as error:
        return [error] * len(calls)
    except Exception as error:  # noqa: BLE001 - handed to the call that caused it
        if len(calls) == 1:
            return [error]
    middle = len(calls) // 2
    return [*isolating_failures(run_batch, calls[:middle]), *isolating_failures(run_batch, calls[middle:])]
