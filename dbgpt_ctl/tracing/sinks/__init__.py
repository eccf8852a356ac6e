"""The base of a destination of spans: a file, an OpenTelemetry collector, or a class of the user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.tracing.span import Span


class NotDelivered(Exception):
    """The sink cannot take a batch now and has taken nothing of it; the writer tries again later."""


class BatchSink:
    """The destination of one `SpanWriter`. `str()` of it names the destination in the log, without secrets."""

    def write(self, spans: Sequence[Span]) -> None:
        """Takes all spans. Raises NotDelivered; any other error loses the batch."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Makes a `write` that runs in another thread end soon, if possible. The next call is `close`."""

    def close(self) -> None:
        """Releases all resources."""
