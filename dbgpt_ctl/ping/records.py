"""The answer of a worker's `generate_stream`: JSON records, each ended by a NUL byte, with the whole text so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.responses import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dbgpt_ctl.client.failover import Outcome, Request

_END = b"\0"
_FRAME = "**LLMServer Generate Error, Please CheckErrorInfo.**:"
"""Stands before the cause in the text of every error of a worker."""
_TEXT_TYPES = ("text", "thinking")
"""A tuple, because what is no text may have no hash."""
MAX_RECORD_BYTES = 500_000
"""Of one record; one of 1,000 tokens has some kilobytes. Decoded, JSON may take twenty times its size."""
_MOST_TOKENS = 10**9
"""A higher number is nonsense, and may have thousands of digits."""


class Record(NamedTuple):
    """What one record says."""

    has_text: bool
    """Whether it has text or thinking."""
    error: str | None
    """The cause of an error, as the worker sends it: of any length, with any characters. None: no error."""
    tokens: int | None
    """Generated tokens; None where the record does not say."""


class RecordReader(BodyReader):
    """Reads the records as they come. It stops at the first error: nothing after it is worth the wait.

    The body is bounded like any other, so a record without an end is too.
    """

    def __init__(
        self, status: int, headers: Mapping[str, str], request: Request, *, monotonic: Callable[[], float]
    ) -> None:
        super().__init__(status, headers, request)
        self._monotonic = monotonic
        self._seen = 0
        self._searched = 0
        self.count = 0
        self.first_text_at: float | None = None
        self.last_record_at: float | None = None
        self.error: str | None = None
        self.tokens: int | None = None
        self.is_malformed = False
        """Something came that is no record, or an answer ended within a record."""

    @property
    def wanted(self) -> bool:
        """As of any body, until an error or something that is no record comes."""
        return super().wanted and self.error is None and not self.is_malformed

    def add(self, chunk: bytes) -> None:
        """Takes the next chunk and the records that end in it."""
        super().add(chunk)
        for encoded in self._complete():
            record = parse_record(decoded(encoded)) if len(encoded) <= MAX_RECORD_BYTES else None
            if record is None:
                self.is_malformed = True
                return
            self._take(record)
            if record.error is not None:
                return
        self.is_malformed = len(self) - self._seen > MAX_RECORD_BYTES

    def outcome(self) -> Outcome:
        """As of any body, once it has ended or is not wanted any more."""
        if self.wanted and self._body[self._seen :].strip():
            self.is_malformed = True
        return super().outcome()

    def _complete(self) -> Iterator[bytes]:
        """The records that are complete and were not read before. A long one is searched for its end once."""
        search_from = max(self._seen, self._searched)
        while (end := self._body.find(_END, search_from)) >= 0:
            encoded = bytes(self._body[self._seen : end])
            self._seen = search_from = end + 1
            if encoded.strip():
                yield encoded
        self._searched = len(self._body)

    def _take(self, record: Record) -> None:
        now = self._monotonic()
        self.count += 1
        self.last_record_at = now
        self.error = record.error
        if record.has_text and record.error is None and self.first_text_at is None:
            self.first_text_at = now
        if record.tokens is not None:
            self.tokens = record.tokens


def parse_record(fields: Any) -> Record | None:
    """The record in a decoded JSON value; None if it is none."""
    if not isinstance(fields, dict) or not fields.keys() & {"content", "text", "error_code"}:
        return None
    text = "".join(_texts(fields))
    is_error = fields.get("error_code") not in (0, None) or text.startswith(_FRAME)
    usage = fields.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Record(
        has_text=bool(text.strip()),
        error=text.removeprefix(_FRAME).strip() if is_error else None,
        tokens=tokens if type(tokens) is int and 0 <= tokens <= _MOST_TOKENS else None,
    )


def _texts(fields: Mapping[str, Any]) -> Iterator[str]:
    """The text and the thinking of a record: `content` is one object, or a list of them."""
    content = fields.get("content")
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") in _TEXT_TYPES:
            inner = part.get("object")
            data = inner.get("data") if isinstance(inner, dict) else None
            if isinstance(data, str):
                yield data
    if isinstance(fields.get("text"), str):
        yield fields["text"]
