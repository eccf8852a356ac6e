"""Where spans may go: the protocol for a class of your own, and what a `SpanWriter` writes to."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.tracing.span import Span

log = logging.getLogger(__name__)


class SpanSink(Protocol):
    """What `tracer_storage_cls` names: a class that is made without arguments when the controller starts.

    Its methods are called from one thread of its own, never from that of the requests. They may take their time: while
    they do, at most a bounded buffer of spans waits, and more are dropped. What they raise is logged once.
    """

    def append(self, span: Span) -> None:
        """Takes one ended span; `span.to_dict()` is DB-GPT's form of it."""
        ...

    def close(self) -> None:
        """The controller leaves; nothing is appended any more."""
        ...


class NotDelivered(Exception):
    """The sink could not take a batch now, and took nothing of it; it is worth to try again later."""


class BatchSink(Protocol):
    """What stands behind a `SpanWriter`. `str()` of it names the place in a log, without secrets."""

    def write(self, spans: Sequence[Span]) -> None:
        """Takes all of them. Raises NotDelivered; any other error loses the batch."""
        ...

    def interrupt(self) -> None:
        """Makes a `write` that is under way in another thread end soon, if it can. The next call is `close`."""
        ...

    def close(self) -> None:
        """Lets go of what it holds."""
        ...


class ClassSink:
    """A `SpanSink` as a BatchSink: what it raises costs the one span."""

    def __init__(self, sink: SpanSink, name: str) -> None:
        self._sink = sink
        self._name = name
        self._told = False

    def __str__(self) -> str:
        return self._name

    def write(self, spans: Sequence[Span]) -> None:
        for span in spans:
            try:
                self._sink.append(span)
            except Exception as error:  # noqa: BLE001 - a stranger's code
                self._tell(error)

    def interrupt(self) -> None:
        """Nothing: there is no way to interrupt it."""

    def close(self) -> None:
        try:
            self._sink.close()
        except Exception as error:  # noqa: BLE001 - as above
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            log.error("tracing to %s fails; further errors of it are not logged", self, exc_info=error)


def load_sink(name: str) -> SpanSink:
    """Makes an object of the class that `name` names, as `package.module:Class` or `package.module.Class`.

    Raises UsageError when there is no such class, it cannot be made, or what it makes is no SpanSink.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    if not module or not attribute:
        raise UsageError(f"tracer_storage_cls {name!a} is not package.module:Class")
    try:
        made = getattr(import_module(module), attribute)()
    except Exception as error:  # importing and making runs a stranger's code
        raise UsageError(f"tracer_storage_cls {name!a} cannot be made: {type(error).__name__}: {error}") from error
    if missing := [method for method in ("append", "close") if not callable(getattr(made, method, None))]:
        raise UsageError(f"tracer_storage_cls {name!a} is no span sink: it has no method {' and no '.join(missing)}")
    sink: Any = made
    return sink  # type: ignore[no-any-return]
