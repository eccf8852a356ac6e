"""Server-sent events: the messages of a watch, and the response that sends them for as long as the client reads.

FastAPI has an EventSourceResponse. It gives each connection a task group, a queue and a timer, and encodes each message
for each connection. Here a thousand connections share one reader and one encoding, and all waiting messages go out in
one write; so this is a plain ASGI response.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from fastapi.responses import Response

from dbgpt_ctl.controller.api.serializers import event_object

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dbgpt_ctl.controller.api.params import Cursor
    from dbgpt_ctl.controller.http.dispatch import Receive, Scope, Send
    from dbgpt_ctl.domain.events import Event

KEEP_ALIVE = b": keep-alive\n\n"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold messages back until they fill a page
}


def ready_message(cursor: Cursor) -> bytes:
    """The first message: what follows is after this cursor."""
    return _message("ready", {"cursor": str(cursor)}, cursor)


def change_message(event: Event, stream: str) -> bytes:
    """One change; its id is the cursor after it."""
    return b"event: change\nid: %b.%d\ndata: %b\n\n" % (stream.encode(), event.id, orjson.dumps(event_object(event)))


def reset_message(reason: str, cursor: Cursor) -> bytes:
    """Changes are missing here: the client must list again."""
    return _message("reset", {"reason": reason, "cursor": str(cursor)}, cursor)


def dropped_message() -> bytes:
    """The last message to a client that is too slow."""
    return _message("dropped", {"reason": "this reader is too slow: go on from the last id"})


def leaving_message() -> bytes:
    """The last message of a controller that ends."""
    return _message("leaving", {"reason": "this controller ends: go on at another from the last id"})


def _message(name: str, data: dict[str, str], cursor: Cursor | None = None) -> bytes:
    identity = b"" if cursor is None else b"id: %b\n" % str(cursor).encode()
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), identity, orjson.dumps(data))


class MessageSource(Protocol):
    """What a response sends."""

    def messages(self) -> AsyncGenerator[bytes]:
        """The messages, several at a time."""

    def disconnected(self) -> None:
        """The client has closed the connection."""

    def end(self) -> None:
        """Nothing is sent any more."""


class WatchResponse(Response):
    """Each write waits until the client has taken most of the previous one: a slow client costs one buffer."""

    media_type = "text/event-stream"

    def __init__(self, source: MessageSource) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        disconnect = asyncio.create_task(self._until_disconnect(receive), name="watch disconnect")
        try:
            async with aclosing(self._source.messages()) as messages:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for data in messages:
                    await send(_body(data, more=True))
                await send(_body(b"", more=False))
        finally:
            self._source.end()
            disconnect.cancel()

    async def _until_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._source.disconnected()


def _body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
