"""The buffer and the thread between the requests and one sink."""

from __future__ import annotations

import logging
from collections import deque
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from dbgpt_ctl.tracing.sinks.custom import NotDelivered

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.tracing.sinks.custom import BatchSink
    from dbgpt_ctl.tracing.span import Span

log = logging.getLogger(__name__)

MAX_SPANS = 4096
"""So many spans wait for a sink that is slow, hangs or is down, some 4 MB; what comes on top is dropped."""
MAX_BATCH = 512
WRITE_EVERY_SECS = 1.0
FIRST_RETRY_SECS, LAST_RETRY_SECS = 1.0, 30.0
MAX_ATTEMPTS = 10
"""After so many failures a batch is dropped: should it be the batch that the sink cannot bear, others get through."""
TELL_DROPS_EVERY_SECS = 60.0
LOOK_EVERY_REFUSED = 100
"""While spans are refused by the thousand, not each of them looks at the clock."""


class SpanWriter:
    """Takes spans from one thread (the event loop's) and writes them in batches from its own, which `open` starts.

    `put` never waits and never raises. What a sink refused is kept, in order, and tried again, at most every
    LAST_RETRY_SECS; what finds `max_spans` (default: MAX_SPANS) waiting is dropped and counted. The thread is a daemon:
    a sink that hangs does not keep the process.
    """

    def __init__(self, sink: BatchSink, *, monotonic: Callable[[], float], max_spans: int | None = None) -> None:
        self._sink = sink
        self._monotonic = monotonic
        self._max_spans = max_spans or MAX_SPANS
        self._waiting: deque[Span] = deque()
        # Each counted by one thread alone: the event loop's, and this writer's own.
        self._refused = 0
        self._lost = 0
        self._look_at_refused = 1
        self._told_drops = 0
        self._tell_drops_from = -TELL_DROPS_EVERY_SECS
        self._telling = Lock()
        self._wake = Event()
        self._closing = Event()
        self._thread: Thread | None = None

    @property
    def dropped(self) -> int:
        """Spans that were lost, since the start."""
        return self._refused + self._lost

    @property
    def waiting(self) -> int:
        """Spans that are not yet written."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next span would be dropped."""
        return len(self._waiting) >= self._max_spans

    def open(self) -> None:
        """Starts the thread."""
        self._thread = Thread(target=self._run, name=f"traces to {self._sink}", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        """Hands over one span."""
        waiting = len(self._waiting)
        if waiting >= self._max_spans:
            self.refuse(1)
            return
        self._waiting.append(span)
        if waiting + 1 == MAX_BATCH:
            self._wake.set()

    def refuse(self, count: int) -> None:
        """Counts spans that find no room, as `put` does; from the same thread. Costs next to nothing."""
        self._refused += count
        if self._refused >= self._look_at_refused:
            self._look_at_refused = self._refused + LOOK_EVERY_REFUSED
            self._tell_drops()

    def close(self, timeout: float) -> None:
        """Writes what waits, once more and within `timeout` seconds, and ends the thread."""
        self._closing.set()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                self._sink.interrupt()
                thread.join(timeout)
        if self._waiting:
            log.warning("tracing to %s: %d spans could not be delivered before the end", self._sink, self.waiting)

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            if failures:  # more spans do not make a retry come sooner
                self._closing.wait(min(FIRST_RETRY_SECS * 2 ** (failures - 1), LAST_RETRY_SECS))
            else:
                self._wake.wait(WRITE_EVERY_SECS)
            self._wake.clear()
            failures = self._write(failures)
        self._write(failures)
        self._sink.close()

    def _write(self, failures: int) -> int:
        """Writes until nothing waits (0) or the sink refuses (the number of failures in a row)."""
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(MAX_BATCH, len(self._waiting)))]
            try:
                self._sink.write(batch)
            except NotDelivered as error:
                failures += 1
                if failures == 1:
                    log.warning("tracing to %s fails: %s; trying again", self._sink, error)
                if failures % MAX_ATTEMPTS:
                    return failures
                self._lose(batch)
                return failures
            except Exception:  # a fault of the sink: it loses the batch, the thread goes on
                log.exception("tracing to %s failed", self._sink)
                self._lose(batch)
                continue
            self._take(batch)
            if failures:
                log.info("tracing to %s works again", self._sink)
            failures = 0
        return failures

    def _take(self, batch: list[Span]) -> None:
        for _ in batch:
            self._waiting.popleft()

    def _lose(self, batch: list[Span]) -> None:
        self._take(batch)
        self._lost += len(batch)
        self._tell_drops()

    def _tell_drops(self) -> None:
        """At once the first time, then at most once a minute."""
        with self._telling:
            now = self._monotonic()
            if now < self._tell_drops_from:
                return
            self._tell_drops_from = now + TELL_DROPS_EVERY_SECS
            news, self._told_drops = self.dropped - self._told_drops, self.dropped
        log.warning("tracing to %s: %d spans dropped: it is down or too slow", self._sink, news)
