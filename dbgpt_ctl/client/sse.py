"""Server-sent events, as far as /api/v1/watch sends them: `event`, `id`, `data` on one line, comments. Bounded.

httpx-sse would read them too, but it has no bound: a stranger's server on the address could take all memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.errors import ControllerFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.addresses import Address

MAX_LINE_BYTES = 16 * 1024
MAX_MESSAGE_BYTES = 64 * 1024
_ADVICE = "is it a DB-GPT controller?"


class Message(NamedTuple):
    """One event: its name, what stands in `data` (several lines joined), and the last id that was sent, if any."""

    event: str
    data: str
    id: str | None


def read_messages(chunks: Iterable[bytes], address: Address) -> Iterator[Message]:
    """The messages in a body. One that is cut off at its end is none.

    Lines end with LF or CRLF. Raises ControllerFailed for a line or message that is too long, or is no UTF-8.
    """
    event, last_id, size = "", None, 0
    data: list[str] = []
    for line in _lines(chunks, address):
        size += len(line)
        if size > MAX_MESSAGE_BYTES:
            raise _too_long(address)
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
        if len(rest) > MAX_LINE_BYTES:
            raise _too_long(address)
        for line in lines:
            if len(line) > MAX_LINE_BYTES:
                raise _too_long(address)
            yield line.removesuffix(b"\r")


def _text(line: bytes, address: Address) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ControllerFailed("what it streams is not UTF-8", controller=str(address), advice=_ADVICE) from None


def _too_long(address: Address) -> ControllerFailed:
    return ControllerFailed("it streams lines without an end", controller=str(address), advice=_ADVICE)
