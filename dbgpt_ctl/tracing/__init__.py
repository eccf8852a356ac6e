"""Tracing of the requests that the controller serves: spans with DB-GPT's names, to a file, a class or OpenTelemetry.

    span      Span, and its line in a DB-GPT trace file
    tracer    Tracer: which requests are recorded, and their spans
    writer    SpanWriter: the bounded buffer and the thread between requests and one BatchSink
    sinks     the destinations
      file    FileSink: JSON lines, a file per day
      otlp    OtlpSink: OpenTelemetry, over gRPC or HTTP (extra `otel`)
      custom  SpanSink: the protocol of a class of the user's own

This package knows neither HTTP frameworks nor settings. `Tracer.open` starts the threads, `Tracer.close` ends them in
bounded time. A request makes its spans and never waits for a sink.
"""

from __future__ import annotations

from dbgpt_ctl.tracing.sinks.custom import SpanSink
from dbgpt_ctl.tracing.span import Span
from dbgpt_ctl.tracing.tracer import Tracer

__all__ = ["Span", "SpanSink", "Tracer"]
