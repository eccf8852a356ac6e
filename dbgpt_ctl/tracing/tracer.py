"""The tracer: it decides whether a request is recorded, and makes the spans of a recorded one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.traceparent import TraceContext
from dbgpt_ctl.tracing.span import ROOT, Span
from dbgpt_ctl.tracing.writer import DropCounter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from random import Random

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.tracing.writer import SpanWriter

CLOSE_SECS = 2.0
"""The time that all writers together have to write waiting spans when the controller ends, and again to give up."""
SPANS_PER_REQUEST = 2
CALLERS_PER_SECOND, CALLERS_BURST = 10.0, 100.0
"""How many requests are recorded only because their callers ask for it: a stranger may ask for every one of them."""
FIRST_SERVER_ERROR = 500
"""From this status on the root span has failed, too; below it only the operation has."""


class Failure(NamedTuple):
    """The reason why a request was not answered with 200; `code` and `status` are those of the problem details."""

    message: str
    code: str
    status: int


class Tracer:
    """Makes two spans per recorded request, as DB-GPT does: ROOT around it, and in that the span of the operation.

    A request that changes instances is recorded, and of heartbeats and lists the share `sample_ratio` (0 to 1), chosen
    by `random`. A caller's `traceparent` goes before: if it is not sampled the request is not recorded, and if it is
    the request is recorded too, at most CALLERS_PER_SECOND on average and CALLERS_BURST at once.
    """

    def __init__(
        self,
        writers: Sequence[SpanWriter],
        *,
        clock: Clock,
        monotonic: Callable[[], float],
        random: Random,
        sample_ratio: float = 0.0,
    ) -> None:
        self.writers = tuple(writers)
        self._clock = clock
        self._monotonic = monotonic
        self._tokens = CALLERS_BURST
        self._tokens_at = monotonic()
        self._not_recorded = DropCounter(
            "tracing",
            f"callers ask for more than {CALLERS_PER_SECOND:g} requests a second; tracer_sample_ratio records more",
            monotonic=monotonic,
        )
        self._random = random
        self._sample_ratio = sample_ratio

    def open(self) -> None:
        """Starts the threads of the writers."""
        for writer in self.writers:
            writer.open()

    def close(self) -> None:
        """Writes the waiting spans and ends the threads; bounded, see CLOSE_SECS."""
        for writer in self.writers:
            writer.close(CLOSE_SECS / len(self.writers))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Opens the tracer, and closes it at the end of the block."""
        from asyncio import to_thread

        self.open()
        try:
            yield
        finally:
            await to_thread(self.close)

    def records(self, parent: TraceContext | None, *, always: bool) -> bool:
        """Whether a request is recorded; `parent` is its traceparent.

        While every writer is full no request is recorded: its spans are counted as dropped and not made at all.
        """
        if parent is not None and not parent.sampled:
            return False
        wanted = always or (self._sample_ratio > 0.0 and self._random.random() < self._sample_ratio)
        if not wanted and parent is not None:
            wanted = self._takes_token()
            if not wanted:
                self._not_recorded.add(SPANS_PER_REQUEST)
        if not wanted:
            return False
        if not all(writer.is_full for writer in self.writers):
            return True
        for writer in self.writers:
            writer.count_dropped(SPANS_PER_REQUEST)
        return False

    @property
    def dropped(self) -> int:
        """The number of spans since the start that only their callers asked for, and that were not made."""
        return self._not_recorded.total

    def _takes_token(self) -> bool:
        """Whether one more request may be recorded because its caller asks for it: a token bucket."""
        now = self._monotonic()
        self._tokens = min(CALLERS_BURST, self._tokens + (now - self._tokens_at) * CALLERS_PER_SECOND)
        self._tokens_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def start(self, parent: TraceContext | None, operation_name: str, path: str) -> tuple[Span, Span]:
        """The root span of a request, and the span of its operation."""
        now, bits = self._clock.now(), self._random.getrandbits
        context = TraceContext.new(bits) if parent is None else parent.child(bits)
        parent_id = None if parent is None else parent.span_id
        root = Span(ROOT, context, parent_id, now, now, {"path": path}, is_server=True)
        return root, Span(operation_name, context.child(bits), context.span_id, now, now, {})

    def end(self, root: Span, operation: Span, metadata: dict[str, Any], failure: Failure | None = None) -> None:
        """Ends both spans and hands them to the writers."""
        root.end_time = operation.end_time = self._clock.now()
        operation.metadata = metadata
        root.metadata["status"] = 200 if failure is None else failure.status
        if failure is not None:
            metadata["error"] = operation.error = failure.message
            metadata["error_code"] = failure.code
            if failure.status >= FIRST_SERVER_ERROR:
                root.error = failure.message
        for writer in self.writers:
            writer.put(root)
            writer.put(operation)
