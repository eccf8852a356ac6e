"""Tracing of the requests that the controller serves: spans with DB-GPT's names, to a file, a class or OpenTelemetry.

This package knows neither HTTP frameworks nor settings. `Tracer.open` starts the threads, `Tracer.close` ends them in
bounded time. A request makes its spans and never waits for a sink.
"""

from __future__ import annotations

from dbgpt_ctl.tracing.span import Span, SpanSink
from dbgpt_ctl.tracing.tracer import Tracer

__all__ = ["Span", "SpanSink", "Tracer"]
