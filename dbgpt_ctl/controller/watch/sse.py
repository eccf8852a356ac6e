"""The answer to a watch: server-sent events for as long as somebody reads them.

FastAPI has an EventSourceResponse of its own. It gives each connection a task group, a queue and a timer, and encodes
each message for each connection; here a thousand share one reader and one encoding, and what waits goes out in one
write, so it is a plain ASGI response.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from fastapi.responses import Response

if TYPE_CHECKING:
    from dbgpt_ctl.controller.http.dispatch import Receive, Scope, Send
    from dbgpt_ctl.controller.watch.subscriber import Watcher

HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep messages until it has a page full
}


class EventStream(Response):
    """What FastAPI has to know of it."""

    media_type = "text/event-stream"


class WatchResponse(EventStream):
    """Each write waits until the reader has taken most of the one before: a slow one costs a buffer, no more."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        gone = asyncio.create_task(self._until_gone(receive), name="watcher gone")
        try:
            async with aclosing(self._watcher.messages()) as messages:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                async for data in messages:
                    await send(_body(data, more=True))
                await send(_body(b"", more=False))
        finally:
            self._watcher.left()
            gone.cancel()

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._watcher.gone()


def _body(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}
