"""The span writer: a buffer and a thread between the requests and one sink, and the base of all sinks."""

from __future__ import annotations

import logging
from collections import deque
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.tracing.span import Span


REPORT_EVERY_SECS = 60.0


class DropCounter:
    """Counts from any thread. Logs the first time at once, then at most once per REPORT_EVERY_SECS, how many spans were
    lost since the last line. `place` and `reason` are the begin and the end of the line.
    """

    def __init__(self, place: str, reason: str, *, monotonic: Callable[[], float]) -> None:
        self.total = 0
        self._place = place
        self._reason = reason
        self._monotonic = monotonic
        self._reported = 0
        self._report_from = -REPORT_EVERY_SECS
        self._lock = Lock()

    def add(self, count: int) -> None:
        """Counts `count` spans."""
        with self._lock:
            self.total += count
            now = self._monotonic()
            if now < self._report_from:
                return
            self._report_from = now + REPORT_EVERY_SECS
            since, self._reported = self.total - self._reported, self.total
        log.warning("%s: %d spans dropped: %s", self._place, since, self._reason)


log = logging.getLogger(__name__)

MAX_SPANS = 4096
"""At most this many spans (about 4 MB) wait for a sink that is slow, hangs or is down; further spans are dropped."""
MAX_BATCH = 512
WRITE_EVERY_SECS = 1.0
FIRST_RETRY_SECS, LAST_RETRY_SECS = 1.0, 30.0
MAX_ATTEMPTS = 10
"""A batch is dropped after this many failures: if the sink cannot take this one, it gets the next ones."""


class NotDelivered(Exception):
    """The sink cannot take a batch now and has taken nothing of it; the writer tries again later."""


class BatchRefused(Exception):
    """The sink does not take this batch, now or later: it is lost. The text, a clause, says why."""


class BatchSink:
    """The destination of one `SpanWriter`. `str()` of it names the destination in the log, without secrets."""

    def write(self, spans: Sequence[Span]) -> None:
        """Takes all spans. Raises NotDelivered and BatchRefused; any other error loses the batch."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Makes a `write` that runs in another thread end soon, if possible. The next call is `close`."""

    def close(self) -> None:
        """Releases all resources."""


class SpanWriter:
    """Takes spans from one thread (the event loop's) and writes them in batches in its own, which `open` starts.

    `put` never waits and never raises. A batch that the sink did not take is kept, in order, and tried again after at
    most LAST_RETRY_SECS. A span that comes while `max_spans` (default: MAX_SPANS) wait is dropped and counted. The
    thread is a daemon: a sink that hangs does not keep the process alive.
    """

    def __init__(self, sink: BatchSink, *, monotonic: Callable[[], float], max_spans: int | None = None) -> None:
        self._sink = sink
        self._max_spans = max_spans or MAX_SPANS
        self._waiting: deque[Span] = deque()
        self._drops = DropCounter(f"tracing to {sink}", "it is down or too slow", monotonic=monotonic)
        self._refused = 0
        self._refusal = ""
        """Why the sink refused the last batch; empty if it took that."""
        self._wake = Event()
        self._closing = Event()
        self._thread: Thread | None = None

    @property
    def dropped(self) -> int:
        """The number of spans lost since the start."""
        return self._drops.total + self._refused

    @property
    def waiting(self) -> int:
        """The number of spans that are not written yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next span would be dropped."""
        return len(self._waiting) >= self._max_spans

    def open(self) -> None:
        self._thread = Thread(target=self._run, name=f"traces to {self._sink}", daemon=True)
        self._thread.start()

    def put(self, span: Span) -> None:
        waiting = len(self._waiting)
        if waiting >= self._max_spans:
            self.count_dropped(1)
            return
        self._waiting.append(span)
        if waiting + 1 == MAX_BATCH:
            self._wake.set()

    def count_dropped(self, count: int) -> None:
        """Counts spans that the sink is too slow for. Logs their number at most once a minute."""
        self._drops.add(count)

    def close(self, timeout: float) -> None:
        """Writes the waiting spans once more, within `timeout` seconds, and ends the thread."""
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
            if failures:  # new spans do not hasten a retry
                self._closing.wait(min(FIRST_RETRY_SECS * 2 ** (failures - 1), LAST_RETRY_SECS))
            else:
                self._wake.wait(WRITE_EVERY_SECS)
            self._wake.clear()
            failures = self._write(failures)
        self._write(failures)
        self._sink.close()

    def _write(self, failures: int) -> int:
        """Writes until no span waits or the sink fails. Returns the number of failures in a row, 0 for success."""
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
            except BatchRefused as error:
                self._refuse(batch, str(error))
                continue
            except Exception:  # a bug in the sink: the batch is lost, the thread goes on
                log.exception("tracing to %s failed", self._sink)
                self._lose(batch)
                continue
            self._taken(batch, failures)
            failures = 0
        return failures

    def _taken(self, batch: list[Span], failures: int) -> None:
        """The sink took the batch, after that many failures in a row."""
        self._remove(batch)
        if self._refusal:
            log.info("tracing to %s goes on; %d spans were dropped since the start", self._sink, self.dropped)
            self._refusal = ""
        if failures:
            log.info("tracing to %s works again", self._sink)

    def _remove(self, batch: list[Span]) -> None:
        for _ in batch:
            self._waiting.popleft()

    def _refuse(self, batch: list[Span], reason: str) -> None:
        """Logs the first of the batches in a row that are refused for the same reason; all are counted."""
        self._remove(batch)
        self._refused += len(batch)
        if reason != self._refusal:
            log.warning("tracing to %s: spans are dropped: %s", self._sink, reason)
            self._refusal = reason

    def _lose(self, batch: list[Span]) -> None:
        self._remove(batch)
        self.count_dropped(len(batch))
