"""The body of a response, read into one buffer of bounded size. No I/O.

A response is decoded by nobody: the request asks for an answer that is not compressed (`Accept-Encoding: identity`),
because a kilobyte of a compressed one becomes a megabyte or more.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from dbgpt_ctl.client.failover import MAX_SHORT_ANSWER_BYTES
from dbgpt_ctl.client.responses import NoResponse, Response, one_line
from dbgpt_ctl.failure_causes import FailureCause

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from dbgpt_ctl.client.failover import Outcome, Request

_PLAIN = frozenset({"", "identity"})


class BodyReader:
    """Takes the chunks of one body while `wanted`; the caller then closes the connection of what is left.

    Its `with` frees what was read when that ends with an exception: the traceback of one keeps this reader alive, until
    the garbage collector comes.

    A 200 that is too long or compressed is no response. Of any other status such a body is left out: the status is the
    answer, and only its reason is lost.
    """

    def __init__(self, status: int, headers: Mapping[str, str], request: Request) -> None:
        """`headers` finds a name in lower case."""
        self._status = status
        self._headers = headers
        self._is_ok = status == HTTPStatus.OK
        self._limit = request.max_bytes if self._is_ok else min(request.max_bytes, MAX_SHORT_ANSWER_BYTES)
        self._body = bytearray()
        self._failure: NoResponse | None = None
        encoding, length = headers.get("content-encoding", ""), headers.get("content-length", "")
        if encoding.strip().lower() not in _PLAIN:
            detail = one_line(f"its answer is compressed ({encoding}), which was not asked for")
            self._failure = NoResponse(detail, FailureCause.NOT_A_CONTROLLER)
        elif length.isdecimal() and int(length[:20]) > self._limit:
            self._failure = self._too_large()

    @property
    def wanted(self) -> bool:
        """Whether the next chunk is worth reading."""
        return self._failure is None

    def __len__(self) -> int:
        return len(self._body)

    def add(self, chunk: bytes) -> None:
        """Takes the next chunk."""
        if len(self._body) + len(chunk) > self._limit:
            self._failure = self._too_large()
            self._body = bytearray()
        else:
            self._body += chunk

    def outcome(self) -> Outcome:
        """The response with its body, or why there is none. Called once."""
        if self._failure is not None and self._is_ok:
            return self._failure
        body, self._body = self._body, bytearray()
        return Response(self._status, self._headers, body)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._body = bytearray()

    def _too_large(self) -> NoResponse:
        return NoResponse(f"its answer is larger than {self._limit / 1e6:g} MB", FailureCause.ANSWER_TOO_LARGE)
