"""A watch over httpx: its request fails over as every call does, then the body is read as server-sent events.

Of the format only what /api/v1/watch sends is read: `event`, `id`, `data`, comments. httpx-sse would read it too, but
without a bound: any other server at the address could fill the memory.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.client.failover import drive
from dbgpt_ctl.client.httpx_internals import httpx, set_read_timeout
from dbgpt_ctl.client.responses import EVENT_STREAM, decoded, one_line
from dbgpt_ctl.client.results import MALFORMED, Watched, read_event
from dbgpt_ctl.errors import ControllerUnreachable, ErrorKind, NotAllowed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from dbgpt_ctl.client.failover import Flow, Outcome, Request
    from dbgpt_ctl.client.transport import Transport
    from dbgpt_ctl.settings.addresses import Address

SILENCE_SECS = 30.0
"""Three keep-alives of the controller. If nothing comes for this long, the controller is gone."""
REFUSED = "refused"
"""The last message of a watch whose token is not valid any more."""
MAX_LINE_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = 64 * 1024


class Message(NamedTuple):
    """One server-sent event: its name, its `data` (several lines joined), and the last id that was sent, if any."""

    event: str
    data: str
    id: str | None


def watch(flow: Flow[Address], transport: Transport) -> Generator[Watched]:
    """As `ControllerClient.watch`."""
    with closing(_StreamOpener(transport)) as opener:
        address = drive(flow, opener.send)
        if opener.stream is not None:
            yield from _changes(opener.stream, address)


class _StreamOpener:
    """A sender that keeps the response with the stream open, as `stream`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.stream: httpx.Response | None = None

    def send(self, request: Request) -> Outcome:
        if request.accept != EVENT_STREAM:
            return self._transport.send(request)
        self.close()
        outcome, self.stream = self._transport.open(request)
        return outcome

    def close(self) -> None:
        """Closes the connection of the stream."""
        if self.stream is not None:
            self.stream.close()


def _changes(response: httpx.Response, address: Address) -> Iterator[Watched]:
    set_read_timeout(response, SILENCE_SECS)
    try:
        for message in read_messages(response.iter_raw(), address):
            watched = read_watched(message, address)
            if watched is not None:
                yield watched
    except httpx.ReadTimeout:
        raise _broken(address, f"nothing came for {SILENCE_SECS:g} s, not even a keep-alive") from None
    except httpx.RequestError as error:
        reason = f"{type(error).__name__}: {error}" if response.is_closed else str(error)
        raise _broken(address, f"the watch broke off: {reason}") from None


def read_watched(message: Message, address: Address) -> Watched | None:
    """A message of a watch; None for a kind that this version does not know. Raises ControllerUnreachable for what no
    controller streams, and NotAllowed where the controller ends the watch because the token is not valid any more.
    """
    fields = decoded(message.data)
    if message.event == REFUSED:
        raise NotAllowed(
            one_line(str(fields.get("reason"))) if isinstance(fields, dict) else REFUSED, controller=str(address)
        )
    try:
        match message.event:
            case "change":
                return Watched("change", message.id, read_event(fields), object=fields)
            case "ready" | "reset" | "dropped" | "leaving" as kind:
                reason = fields.get("reason")
                cursor = fields.get("cursor") or message.id
                return Watched(kind, cursor, reason=None if reason is None else one_line(str(reason)), object=fields)
            case _:
                return None
    except MALFORMED:
        raise _malformed(address, "it streams something that is not a change of an instance") from None


def read_messages(chunks: Iterable[bytes], address: Address) -> Iterator[Message]:
    """The messages in a body. A message that is cut off at the end is ignored.

    Lines end with LF or CRLF. Raises ControllerUnreachable for a line or message that is too long or not UTF-8.
    """
    event, last_id, size = "", None, 0
    data: list[str] = []
    for line in _lines(chunks, address):
        size += len(line)
        if size > MAX_MESSAGE_BYTES:
            raise _malformed(address, "it streams lines without an end")
        if not line:
            if data:
                yield Message(event or "message", "\n".join(data), last_id)
            event, data, size = "", [], 0
            continue
        name, _, value = _text(line, address).partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value


def _lines(chunks: Iterable[bytes], address: Address) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if any(len(line) > MAX_LINE_BYTES for line in (*lines, rest)):
            raise _malformed(address, "it streams lines without an end")
        for line in lines:
            yield line.removesuffix(b"\r")


def _text(line: bytes, address: Address) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise _malformed(address, "what it streams is not UTF-8") from None


def _malformed(address: Address, detail: str) -> ControllerUnreachable:
    return ControllerUnreachable(
        detail, controller=str(address), kind=ErrorKind.NOT_A_CONTROLLER, advice="is it a DB-GPT controller?"
    )


def _broken(address: Address, detail: str) -> ControllerUnreachable:
    return ControllerUnreachable(detail, controller=str(address), kind=ErrorKind.STREAM_BROKEN)
