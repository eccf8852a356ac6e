"""A span, its line in a DB-GPT trace file, and what takes spans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.traceparent import TraceContext


ROOT = "DB-GPT-ModelController"
"""DB-GPT's name for the span around each request to a controller."""
PREFIX = "dbgpt.model.controller."
"""DB-GPT's prefix for the span of the operation within a request."""
REGISTER = f"{PREFIX}register_instance"
DEREGISTER = f"{PREFIX}deregister_instance"
HEARTBEAT = f"{PREFIX}send_heartbeat"
LIST = f"{PREFIX}get_all_instances"


@dataclass(slots=True)
class Span:
    """One unit of work; it has ended when a sink gets it. Times are aware and in UTC; `metadata` holds JSON values."""

    operation_name: str
    context: TraceContext
    parent_span_id: str | None
    """16 hex digits; the parent belongs to the same trace."""
    start_time: datetime
    end_time: datetime
    metadata: dict[str, Any]
    is_server: bool = False
    """Whether it is the span around a request; its parent may be in another process."""
    error: str | None = None
    """The reason if the work failed."""

    def to_dict(self) -> dict[str, Any]:
        """The object that DB-GPT's tracer writes: a span id includes the trace id, times are in UTC."""
        trace_id = self.context.trace_id
        return {
            "span_type": "base",
            "trace_id": trace_id,
            "span_id": f"{trace_id}:{self.context.span_id}",
            "parent_span_id": self.parent_span_id and f"{trace_id}:{self.parent_span_id}",
            "operation_name": self.operation_name,
            "start_time": _format(self.start_time),
            "end_time": _format(self.end_time),
            "metadata": self.metadata or None,
        }

    def line(self) -> bytes:
        """`to_dict` as one line of JSON, with its line end."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_APPEND_NEWLINE)


def _format(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(" ", "milliseconds")


class SpanSink(Protocol):
    """The class that `tracer_storage_cls` names. The controller creates it without arguments when it starts.

    Its methods run in a thread of their own, never in the thread of the requests. They may be slow: a bounded buffer
    keeps spans meanwhile, and further spans are dropped. The first error that they raise is logged.
    """

    def append(self, span: Span) -> None:
        """Takes one ended span; `span.to_dict()` returns it in DB-GPT's form."""
        ...

    def close(self) -> None:
        """The controller ends; no span follows."""
        ...
