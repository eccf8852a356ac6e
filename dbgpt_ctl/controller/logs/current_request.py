"""The request that is being served, for the lines that are written meanwhile: its id, its trace, its instance.

Nothing is made before a line needs it, because most requests are heartbeats that write none.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dbgpt_ctl import traceparent
from dbgpt_ctl.controller.http.request import REGISTRATION, header_map
from dbgpt_ctl.settings.masking import mask_tokens

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from dbgpt_ctl.domain.instance import InstanceKey

    HttpScope = MutableMapping[str, Any]

CURRENT: ContextVar[HttpScope | None] = ContextVar("dbgpt_ctl.request", default=None)
"""The scope of the request that this task serves; None outside of one, and where no log has a use for it."""
TRACE_ID = "dbgpt_ctl.trace_id"
"""Key in a request's scope: the trace in which the controller records the request, if it does."""
INSTANCE = "dbgpt_ctl.instance"
"""Key in a request's scope: the InstanceKey of a change that has no Registration."""
_REQUEST_ID = "dbgpt_ctl.request_id"
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class NotedRequests:
    """An ASGI application around another one that notes the request in CURRENT. It is there only if a log needs it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = CURRENT.set(scope if scope["type"] == "http" else None)
        try:
            await self._app(scope, receive, send)
        finally:
            CURRENT.reset(token)


def request_id(scope: HttpScope) -> str:
    """The `X-Request-ID` of the request if that is a short token of letters, digits and . _ -, else a new id.

    What may be a secret is no id.
    """
    known: str | None = scope.get(_REQUEST_ID)
    if known is None:
        header = header_map(scope).get(b"x-request-id", b"")
        sent = header.decode("ascii") if _SANE_ID.fullmatch(header) else ""
        known = sent if sent and mask_tokens(sent) == sent else f"{traceparent.system_bits(64):016x}"
        scope[_REQUEST_ID] = known
    return known


def trace_id(scope: HttpScope) -> str | None:
    """The trace of the request: the one in which this controller records it, else the one that its caller names."""
    recorded: str | None = scope.get(TRACE_ID)
    if recorded is not None:
        return recorded
    caller = traceparent.incoming(scope["headers"])
    return None if caller is None else caller.trace_id


def instance_of(scope: HttpScope) -> InstanceKey | None:
    """The instance that the request is about, once its endpoint has read it."""
    sent = scope.get(REGISTRATION)
    return scope.get(INSTANCE) if sent is None else sent.key
