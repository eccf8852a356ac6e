"""Classes that `tracer_storage_cls` may name."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from dbgpt_ctl.tracing import Span


class Keeps:
    """Keeps the spans of all its objects."""

    spans: ClassVar[list[Span]] = []
    closed: ClassVar[list[Keeps]] = []
    news: ClassVar[threading.Condition] = threading.Condition()

    def append(self, span: Span) -> None:
        with self.news:
            self.spans.append(span)
            self.news.notify_all()

    def close(self) -> None:
        self.closed.append(self)

    @classmethod
    def wait_for(cls, count: int) -> list[Span]:
        with cls.news:
            assert cls.news.wait_for(lambda: len(cls.spans) >= count, 20), cls.spans
            return list(cls.spans)

    @classmethod
    def forget(cls) -> None:
        cls.spans.clear()
        cls.closed.clear()


class Fails(Keeps):
    """Raises at every span and at the end."""

    def append(self, span: Span) -> None:
        super().append(span)
        raise RuntimeError("no")

    def close(self) -> None:
        super().close()
        raise RuntimeError("no")


class Hangs(Keeps):
    """Hangs at the first span until `let_go` is set."""

    let_go: ClassVar[threading.Event] = threading.Event()

    def append(self, span: Span) -> None:
        super().append(span)
        self.let_go.wait(20)


class CannotBeMade(Keeps):
    def __init__(self) -> None:
        raise ValueError("never")


class NoSink:
    def append(self, span: Span) -> None:
        pass
