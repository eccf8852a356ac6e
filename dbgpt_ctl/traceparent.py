"""The header `traceparent` of W3C Trace Context: the trace and the span of a call, and whether it is recorded."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Bits = Callable[[int], int]
    """Returns a random number of that many bits."""

HEADER = "traceparent"
_RAW_HEADER = HEADER.encode()
_SAMPLED = 0x01
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL)
_MAX_CHARS = 512
"""A later version of the header may be longer than ours; the limit protects against a header of any length."""


def system_bits(count: int) -> int:
    """Random bits from the system, without a module that is slow to import."""
    return int.from_bytes(os.urandom(count // 8))


class TraceContext(NamedTuple):
    """One span of one trace. The ids are 32 and 16 lower case hex digits, not all zero."""

    trace_id: str
    span_id: str
    sampled: bool

    def __str__(self) -> str:
        """The value of the header, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @classmethod
    def new(cls, bits: Bits = system_bits) -> TraceContext:
        """The first span of a new, recorded trace."""
        return cls(f"{bits(128) or 1:032x}", f"{bits(64) or 1:016x}", sampled=True)

    def child(self, bits: Bits = system_bits) -> TraceContext:
        """Another span of the same trace."""
        return TraceContext(self.trace_id, f"{bits(64) or 1:016x}", self.sampled)


CURRENT: ContextVar[TraceContext | None] = ContextVar("dbgpt_ctl.traceparent", default=None)
"""The current span: every call of a client in it is part of its trace. None: there is no trace."""


def parse(text: str) -> TraceContext | None:
    """The context in a value of the header; None for a value that the standard says to ignore.

    A later version is read as version 00. `sampled` is the only known flag.
    """
    form = _FORM.fullmatch(text) if len(text) <= _MAX_CHARS else None
    if form is None:
        return None
    version, trace_id, span_id, flags, more = form.groups()
    if version == "ff" or (version == "00" and more is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, sampled=bool(int(flags, 16) & _SAMPLED))


def incoming(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """The context in the raw headers of a request (names in lower case, as in ASGI). A repeated header is ignored."""
    found = [value for name, value in headers if name == _RAW_HEADER]
    return parse(found[0].decode("latin-1")) if len(found) == 1 else None
