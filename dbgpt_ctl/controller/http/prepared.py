"""Responses whose bytes are made once, and leave in one step where `protocol` serves the request."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

SEND_PREPARED = "dbgpt_ctl.send_prepared"
"""Key in a request's scope: a function of ASGI's `send` and a PreparedResponse that sends the whole answer. It returns
False, and has sent nothing, if the response must take the usual way: the peer does not read, or `send` is not the
server's own, because something between the server and the application wants to see the messages.
"""


class PreparedResponse(Response):
    """A response whose whole body is there. One object may answer many requests.

    The usual way of a response is two ASGI messages. Uvicorn examines each header of the first one with two regular
    expressions and joins all headers anew. For an answer as small as `true` that is a tenth of the cost of a heartbeat.
    """

    def __init__(
        self, body: bytes, media_type: str, headers: Mapping[str, str] | None = None, status: int = HTTPStatus.OK
    ) -> None:
        super().__init__(body, status, headers=headers, media_type=media_type)
        self.content = body
        self.head = b"".join(b"%b: %b\r\n" % header for header in self.raw_headers)
        """Its headers as they are sent, without those of the server."""


def sent_at_once(response: Response, scope: MutableMapping[str, Any], send: Any) -> bool:
    """Sends a prepared response in one step. False, and nothing is sent, if it must be called as an ASGI application,
    as any other response is.
    """
    if not isinstance(response, PreparedResponse):
        return False
    send_prepared = scope.get(SEND_PREPARED)
    return send_prepared is not None and send_prepared(send, response)
