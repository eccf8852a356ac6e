"""Which requests are recorded, and the spans of those."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.traceparent import TraceContext
from dbgpt_ctl.tracing.span import ROOT, Span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from random import Random

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.tracing.writer import SpanWriter

CLOSE_SECS = 2.0
"""So long the writers together may take for what waits when the controller leaves; and as long again to give up."""
SPANS_PER_REQUEST = 2
FIRST_SERVER_ERROR = 500
"""From this status on the failure is the server's, and its root span's; below it, only the operation failed."""


class Failure(NamedTuple):
    """Why a request got no answer of 200; `code` and `status` are those of the problem details."""

    message: str
    code: str
    status: int


class Tracer:
    """Makes two spans per recorded request, as DB-GPT does: ROOT around it, and in that what it asks of the controller.

    A caller that sends a `traceparent` decides: recorded if and only if that is sampled. Without one, what changes
    instances is recorded always, and of heartbeats and lists the share `sample_ratio` (0 to 1), by `random`.
    """

    def __init__(
        self, writers: Sequence[SpanWriter], *, clock: Clock, random: Random, sample_ratio: float = 0.0
    ) -> None:
        self.writers = tuple(writers)
        self._clock = clock
        self._random = random
        self._sample_ratio = sample_ratio

    def open(self) -> None:
        """Starts the threads of the writers."""
        for writer in self.writers:
            writer.open()

    def close(self) -> None:
        """Writes what waits and ends the threads; bounded, see CLOSE_SECS."""
        for writer in self.writers:
            writer.close(CLOSE_SECS / len(self.writers))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open until it is left."""
        from asyncio import to_thread

        self.open()
        try:
            yield
        finally:
            await to_thread(self.close)

    def records(self, parent: TraceContext | None, *, always: bool) -> bool:
        """Whether a request is recorded; `parent` is what its traceparent says.

        While no writer has room, none is: spans that would be dropped are counted as such and not even made.
        """
        if parent is not None:
            wanted = parent.sampled
        else:
            wanted = always or (self._sample_ratio > 0.0 and self._random.random() < self._sample_ratio)
        if not wanted:
            return False
        for writer in self.writers:
            if not writer.is_full:
                return True
        for writer in self.writers:
            writer.refuse(SPANS_PER_REQUEST)
        return False

    def start(self, parent: TraceContext | None, operation_name: str, path: str) -> tuple[Span, Span]:
        """The root span of a request, and the span of the operation in it."""
        now, bits = self._clock.now(), self._random.getrandbits
        context = TraceContext.new(bits) if parent is None else parent.child(bits)
        parent_id = None if parent is None else parent.span_id
        root = Span(ROOT, context, parent_id, now, now, {"path": path}, is_server=True)
        return root, Span(operation_name, context.child(bits), context.span_id, now, now, {})

    def end(self, root: Span, operation: Span, metadata: dict[str, Any], failure: Failure | None = None) -> None:
        """Ends both and hands them over."""
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
