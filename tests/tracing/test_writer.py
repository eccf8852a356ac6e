"""The buffer between requests and a sink: it is bounded, keeps what a sink did not take, and blocks no request."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.tracing import writer as writer_module
from dbgpt_ctl.tracing.writer import MAX_ATTEMPTS, MAX_BATCH, BatchRefused, NotDelivered, SpanWriter
from tests.tracing.spans import Sink, span

if TYPE_CHECKING:
    from collections.abc import Iterator


class Seconds:
    """A monotonic clock that does not move."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WRITE_EVERY_SECS", "FIRST_RETRY_SECS", "LAST_RETRY_SECS"):
        monkeypatch.setattr(writer_module, name, 0.01)


@contextmanager
def writing(sink: Sink, max_spans: int = 100, seconds: Seconds | None = None) -> Iterator[SpanWriter]:
    writer = SpanWriter(sink, monotonic=seconds or Seconds(), max_spans=max_spans)
    writer.open()
    try:
        yield writer
    finally:
        sink.let_go.set()
        writer.close(10)
        assert sink.closed.is_set()


def test_what_is_put_is_written_in_order() -> None:
    sink = Sink()
    with writing(sink) as writer:
        for number in range(50):
            writer.put(span(number))
        assert sink.wait_for_spans(50) == list(range(50))
    assert writer.dropped == 0


def test_a_full_batch_does_not_wait_and_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "WRITE_EVERY_SECS", 3600)
    sink = Sink()
    with writing(sink, max_spans=2000) as writer:
        for number in range(MAX_BATCH):
            writer.put(span(number))
        sink.wait_for_spans(MAX_BATCH)
    assert all(len(batch) <= MAX_BATCH for batch in sink.batches)


def test_no_thread_before_open_and_none_after_close() -> None:
    before = threading.active_count()
    writer = SpanWriter(Sink(), monotonic=Seconds())
    writer.put(span())
    assert threading.active_count() == before
    writer.open()
    writer.close(10)
    assert threading.active_count() == before
    assert writer.waiting == 0


def test_closing_writes_the_waiting_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "WRITE_EVERY_SECS", 3600)
    sink = Sink()
    with writing(sink) as writer:
        for number in range(3):
            writer.put(span(number))
    assert sink.numbers == [0, 1, 2]


def test_a_sink_that_hangs_costs_a_bounded_buffer(caplog: pytest.LogCaptureFixture) -> None:
    sink, seconds = Sink(), Seconds()
    sink.let_go.clear()
    with writing(sink, max_spans=10, seconds=seconds) as writer:
        writer.put(span(0))
        sink.wait_for_attempts(1)
        for number in range(1, 1000):
            writer.put(span(number))
            assert writer.waiting <= 10
        assert writer.is_full
        assert writer.dropped == 990
        assert [record.getMessage() for record in caplog.records] == [
            "tracing to a sink: 1 spans dropped: it is down or too slow"
        ]
        seconds.now += 60
        for number in range(100):
            writer.put(span(1000 + number))
        [_, line] = [record.getMessage() for record in caplog.records]
        assert line == "tracing to a sink: 990 spans dropped: it is down or too slow"
        sink.let_go.set()
        assert sink.wait_for_spans(10) == list(range(10))


def test_refused_batches_are_lost_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = Sink()
    sink.failure = BatchRefused("it is full")
    with writing(sink) as writer:
        for number in range(5):
            writer.put(span(number))
            sink.wait_for_attempts(number + 1)
            while writer.dropped <= number:
                pass
        sink.failure = None
        writer.put(span(7))
        assert sink.wait_for_spans(1) == [7]
    assert [record.getMessage() for record in caplog.records] == [
        "tracing to a sink: spans are dropped: it is full",
        "tracing to a sink goes on; 5 spans were dropped since the start",
    ]


def test_a_sink_that_hangs_at_the_end_does_not_keep_the_process() -> None:
    sink = Sink()
    sink.let_go.clear()
    writer = SpanWriter(sink, monotonic=Seconds())
    writer.open()
    writer.put(span(0))
    sink.wait_for_attempts(1)
    writer.close(0.01)
    assert sink.interrupted
    assert sink.closed.wait(20)


def test_a_batch_that_a_sink_did_not_take_is_kept_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = Sink()
    sink.failure = NotDelivered("it sleeps")
    with writing(sink) as writer:
        writer.put(span(0))
        sink.wait_for_attempts(3)
        writer.put(span(1))
        sink.failure = None
        assert sink.wait_for_spans(2) == [0, 1]
        assert writer.dropped == 0
    assert [record.getMessage() for record in caplog.records] == [
        "tracing to a sink fails: it sleeps; trying again",
        "tracing to a sink works again",
    ]


def test_a_batch_that_never_gets_through_does_not_block_the_others_for_ever() -> None:
    sink = Sink()
    sink.failure = NotDelivered("it cannot bear this one")
    with writing(sink) as writer:
        writer.put(span(0))
        sink.wait_for_attempts(MAX_ATTEMPTS)
        sink.wait_for_attempts(MAX_ATTEMPTS)
        while writer.dropped == 0:
            threading.Event().wait(0.001)
        sink.failure = None
        writer.put(span(1))
        assert sink.wait_for_spans(1) == [1]


def test_a_bug_in_a_sink_loses_one_batch_only(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    sink.failure = KeyError("bug")
    with writing(sink) as writer:
        writer.put(span(0))
        while writer.dropped == 0:
            threading.Event().wait(0.001)
        sink.failure = None
        writer.put(span(1))
        assert sink.wait_for_spans(1) == [1]
    assert any(record.exc_info for record in caplog.records)


def test_spans_that_could_not_be_delivered_at_the_end_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    sink = Sink()
    sink.failure = NotDelivered("down")
    with writing(sink) as writer:
        writer.put(span(0))
        writer.put(span(1))
    assert caplog.records[-1].getMessage() == "tracing to a sink: 2 spans could not be delivered before the end"
