"""Spans without a controller, and sinks that keep, refuse or hang."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.traceparent import TraceContext
from dbgpt_ctl.tracing import Span
from dbgpt_ctl.tracing.span import REGISTER
from dbgpt_ctl.tracing.writer import BatchSink
from tests.support.clock import START

if TYPE_CHECKING:
    from collections.abc import Sequence

WAIT_SECS = 20.0
_RANDOM = Random(7)


def span(number: int = 0, **metadata: Any) -> Span:
    return Span(REGISTER, TraceContext.new(_RANDOM.getrandbits), None, START, START, {"number": number, **metadata})


class Sink(BatchSink):
    """Keeps the written spans. It raises `failure` while that is set, and hangs while `let_go` is cleared."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.failure: Exception | None = None
        self.attempts = 0
        self.let_go = threading.Event()
        self.let_go.set()
        self.interrupted = False
        self.closed = threading.Event()
        self._news = threading.Condition()

    def __str__(self) -> str:
        return "a sink"

    def write(self, spans: Sequence[Span]) -> None:
        with self._news:
            self.attempts += 1
            self._news.notify_all()
        self.let_go.wait(WAIT_SECS)
        with self._news:
            if self.failure is not None:
                raise self.failure
            self.batches.append([span.metadata["number"] for span in spans])
            self._news.notify_all()

    def interrupt(self) -> None:
        self.interrupted = True
        self.let_go.set()

    def close(self) -> None:
        self.closed.set()

    @property
    def numbers(self) -> list[int]:
        return [number for batch in self.batches for number in batch]

    def wait_for_attempts(self, count: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.attempts >= count, WAIT_SECS)

    def wait_for_spans(self, count: int) -> list[int]:
        with self._news:
            assert self._news.wait_for(lambda: len(self.numbers) >= count, WAIT_SECS)
            return self.numbers
