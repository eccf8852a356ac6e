"""Which requests are recorded, and the two spans of a recorded one."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.traceparent import TraceContext
from dbgpt_ctl.tracing import Tracer
from dbgpt_ctl.tracing.span import HEARTBEAT, ROOT
from dbgpt_ctl.tracing.tracer import CALLERS_BURST, CALLERS_PER_SECOND, SPANS_PER_REQUEST, Failure
from dbgpt_ctl.tracing.writer import SpanWriter
from tests.support.clock import START, ManualClock
from tests.tracing.spans import Sink, span

if TYPE_CHECKING:
    from collections.abc import Callable

CALLER = TraceContext("1" * 32, "2" * 16, sampled=True)


def tracer(
    *,
    ratio: float = 0.0,
    max_spans: int = 10,
    clock: ManualClock | None = None,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> Tracer:
    writer = SpanWriter(Sink(), monotonic=lambda: 0.0, max_spans=max_spans)  # not open: what is put stays
    clock = clock or ManualClock()
    return Tracer([writer], clock=clock, monotonic=monotonic, random=Random(7), sample_ratio=ratio)


@pytest.mark.parametrize("always", [True, False])
@pytest.mark.parametrize("sampled", [True, False])
def test_a_caller_with_a_traceparent_decides(*, always: bool, sampled: bool) -> None:
    assert tracer(ratio=0.5).records(CALLER._replace(sampled=sampled), always=always) is sampled


def test_what_only_callers_ask_for_is_bounded_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    recording = tracer(monotonic=lambda: now)
    assert sum(recording.records(CALLER, always=False) for _ in range(1000)) == CALLERS_BURST
    assert recording.dropped == SPANS_PER_REQUEST * (1000 - CALLERS_BURST)
    now += 2.0
    assert sum(recording.records(CALLER, always=False) for _ in range(1000)) == 2 * CALLERS_PER_SECOND
    now += 3600.0
    assert sum(recording.records(CALLER, always=False) for _ in range(1000)) == CALLERS_BURST
    assert [record.getMessage() for record in caplog.records] == [
        "tracing: 2 spans dropped: callers ask for more than 10 requests a second; tracer_sample_ratio records more",
        "tracing: 3760 spans dropped: callers ask for more than 10 requests a second; tracer_sample_ratio records more",
    ]


def test_what_is_recorded_anyway_takes_nothing_from_the_callers() -> None:
    recording = tracer(ratio=0.5)
    assert all(recording.records(CALLER, always=True) for _ in range(1000))
    asked = sum(recording.records(CALLER, always=False) for _ in range(1000))
    assert 400 + CALLERS_BURST < asked < 600 + CALLERS_BURST
    assert tracer(ratio=1.0).records(CALLER, always=False)


def test_without_a_traceparent_changes_are_recorded_and_a_share_of_the_rest() -> None:
    assert tracer().records(None, always=True)
    assert not tracer().records(None, always=False)
    assert tracer(ratio=1.0).records(None, always=False)
    half = tracer(ratio=0.5)
    assert 400 < sum(half.records(None, always=False) for _ in range(1000)) < 600


def test_while_every_writer_is_full_nothing_is_recorded_and_the_spans_count_as_dropped() -> None:
    full = tracer(max_spans=1)
    (writer,) = full.writers
    writer.put(span())
    assert not full.records(None, always=True)
    assert writer.dropped == SPANS_PER_REQUEST


def test_the_spans_of_a_request_belong_to_the_trace_of_its_caller() -> None:
    clock = ManualClock()
    recording = tracer(clock=clock)
    root, operation = recording.start(CALLER, HEARTBEAT, "/api/controller/heartbeat")
    assert (root.operation_name, operation.operation_name) == (ROOT, HEARTBEAT)
    assert root.context.trace_id == operation.context.trace_id == CALLER.trace_id
    assert (root.parent_span_id, operation.parent_span_id) == (CALLER.span_id, root.context.span_id)
    clock.advance(1)
    recording.end(root, operation, {"port": 1})
    assert (root.start_time, root.end_time) == (START, clock.now())
    assert (root.metadata["status"], operation.metadata, root.error, operation.error) == (200, {"port": 1}, None, None)
    assert recording.writers[0].waiting == SPANS_PER_REQUEST


@pytest.mark.parametrize(("status", "root_failed"), [(422, False), (499, False), (500, True), (503, True)])
def test_only_a_failure_of_the_server_is_one_of_the_root_span(status: int, *, root_failed: bool) -> None:
    recording = tracer()
    root, operation = recording.start(None, HEARTBEAT, "/")
    assert root.parent_span_id is None
    recording.end(root, operation, {}, Failure("why", "a_code", status))
    assert (operation.error, operation.metadata) == ("why", {"error": "why", "error_code": "a_code"})
    assert root.error == ("why" if root_failed else None)
    assert root.metadata["status"] == status
