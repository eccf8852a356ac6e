"""What the controller tells of the requests it served: spans, in DB-GPT's names, to a file, a class or OTLP.

    span      Span, and its line in a DB-GPT trace file
    sinks     SpanSink, the protocol for a class of your own; BatchSink, what a writer writes to
    file      FileSink: JSON lines, a file per day
    otlp      OtlpSink: OpenTelemetry, over gRPC or HTTP (extra `otel`)
    writer    SpanWriter: the bounded buffer and the thread between requests and one sink
    tracer    Tracer: which requests are recorded, and their spans

Nothing here knows HTTP frameworks or settings. `Tracer.open` starts the threads, `Tracer.close` ends them in bounded
time; in between, a request pays for the making of its spans and no more, whatever a sink does.
"""

from __future__ import annotations

from dbgpt_ctl.tracing.sinks.custom import SpanSink
from dbgpt_ctl.tracing.span import Span
from dbgpt_ctl.tracing.tracer import Tracer

__all__ = ["Span", "SpanSink", "Tracer"]
