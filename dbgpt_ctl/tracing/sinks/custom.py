"""Spans to a class of the user's own: the adapter of a `SpanSink` to `BatchSink`, and how the class is loaded."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.tracing.writer import BatchSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbgpt_ctl.tracing.span import Span, SpanSink

log = logging.getLogger(__name__)


class ClassSink(BatchSink):
    """A `SpanSink` as a BatchSink: an error that it raises loses one span only."""

    def __init__(self, sink: SpanSink, name: str) -> None:
        self._sink = sink
        self._name = name
        self._logged = False

    def __str__(self) -> str:
        return self._name

    def write(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._call(self._sink.append, span)

    def close(self) -> None:
        self._call(self._sink.close)

    def _call(self, method: Callable[..., None], *args: Span) -> None:
        try:
            method(*args)
        except Exception:  # foreign code
            if not self._logged:
                self._logged = True
                log.exception("tracing to %s fails; further errors of it are not logged", self)


def load_sink(name: str) -> SpanSink:
    """Creates an object of the class named `package.module:Class` or `package.module.Class`.

    Raises UsageError when there is no such class, when its constructor fails, or when the object is no SpanSink.
    """
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not module or not attribute:
        raise UsageError(f"tracer_storage_cls {name!a} is not package.module:Class")
    try:
        made: Any = getattr(import_module(module), attribute)()
    except Exception as error:  # the import and the constructor run foreign code
        raise UsageError(f"tracer_storage_cls {name!a} cannot be made: {type(error).__name__}: {error}") from error
    if missing := [method for method in ("append", "close") if not callable(getattr(made, method, None))]:
        raise UsageError(f"tracer_storage_cls {name!a} is no span sink: it has no method {' and no '.join(missing)}")
    return made  # type: ignore[no-any-return]
