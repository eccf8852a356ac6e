"""The protocol of a class of the user's own that takes spans."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dbgpt_ctl.tracing.span import Span


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
