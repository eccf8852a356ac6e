"""A watch over httpx: the request goes the way of every call, then its body is read as server-sent events."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx

from dbgpt_ctl.client.responses import Reply, Unanswered
from dbgpt_ctl.client.sse import read_messages
from dbgpt_ctl.client.sync import drive
from dbgpt_ctl.client.transport import unanswered
from dbgpt_ctl.client.v1 import EVENT_STREAM, read_message
from dbgpt_ctl.errors import ControllerUnreachable, ErrorKind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from dbgpt_ctl.addresses import Address
    from dbgpt_ctl.client.calls import Calls, Request
    from dbgpt_ctl.client.details import Watched
    from dbgpt_ctl.client.transport import Transport

SILENCE_SECS = 30.0
"""Three keep-alives of the controller: where nothing comes for so long, nobody is there any more."""
MAX_ANSWER_BYTES = 64 * 1024
"""Of an answer that is no stream: it is an error and its reason."""


def watch(calls: Calls, transport: Transport, **asked: str | None) -> Generator[Watched]:
    """As `ControllerClient.watch`."""
    with closing(_Opening(transport)) as opening:
        address = drive(calls.watch(**asked), opening)
        yield from _messages(opening.response, address)


def _messages(response: httpx.Response | None, address: Address) -> Iterator[Watched]:
    if response is None:
        return
    # The timeout of the request has done its duty; httpcore asks for this one when the body begins.
    response.request.extensions["timeout"]["read"] = SILENCE_SECS
    try:
        for message in read_messages(response.iter_raw(), address):
            watched = read_message(message, address)
            if watched is not None:
                yield watched
    except httpx.ReadTimeout:
        raise _broken(address, f"nothing came for {SILENCE_SECS:g} s, not even a keep-alive") from None
    except httpx.RequestError as error:
        raise _broken(address, f"the watch broke off: {_why(error, response)}") from None


def _broken(address: Address, detail: str) -> ControllerUnreachable:
    return ControllerUnreachable(detail, controller=str(address), kind=ErrorKind.STREAM_BROKEN)


def _why(error: httpx.RequestError, response: httpx.Response) -> str:
    return f"{type(error).__name__}: {error}" if response.is_closed else str(error)


class _Opening:
    """Sends as a transport does, but keeps the response that streams, open, as `response`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.response: httpx.Response | None = None

    def send(self, request: Request) -> Reply | Unanswered:
        self.close()
        began = monotonic()
        outcome = self._open(replace(request, accept=EVENT_STREAM))
        self._transport.note(request, outcome, monotonic() - began)
        return outcome

    def _open(self, request: Request) -> Reply | Unanswered:
        response = self._transport.open(request)
        if isinstance(response, Unanswered):
            return response
        self.response = response
        headers: Any = response.headers
        if response.status_code == httpx.codes.OK:
            return Reply(response.status_code, headers, b"")
        body = bytearray()
        try:
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    break
        except httpx.RequestError as error:
            return unanswered(error, request)
        return Reply(response.status_code, headers, bytes(body))

    def close(self) -> None:
        """Lets go of the connection."""
        if self.response is not None:
            self.response.close()
