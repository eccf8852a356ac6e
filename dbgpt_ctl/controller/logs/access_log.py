"""The access log: a line for each request that reached the application, in the log of the controller.

The line has no secret: nothing of the query, of the headers only the id and the trace of the request, and of a path
that is no route of the API neither a user and password nor what may be a token.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dbgpt_ctl.controller.http.callers import IDENTITY
from dbgpt_ctl.controller.http.prepared import SEND_PREPARED
from dbgpt_ctl.controller.http.source import source_of
from dbgpt_ctl.controller.logs.current_request import instance_of, request_id, trace_id
from dbgpt_ctl.controller.logs.formats import instance_fields
from dbgpt_ctl.settings.masking import mask_tokens, mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dbgpt_ctl.controller.http.callers import Caller
    from dbgpt_ctl.controller.http.prepared import PreparedResponse
    from dbgpt_ctl.controller.logs.current_request import HttpScope

LOGGER = "dbgpt_ctl.access"
log = logging.getLogger(LOGGER)

MAX_PATH_CHARS = 200


class AccessLog:
    """An ASGI application around another one, whose requests it logs. It is not there while the access log is off, so
    that no request pays for it.

    `known_paths` are those of the routes, which are shown as they are.
    """

    def __init__(
        self, app: ASGIApp, known_paths: Collection[str], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._known_paths = frozenset(known_paths)
        self._monotonic = monotonic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, started = _AnswerNotes(send), self._monotonic()
        answer.watch_prepared(scope)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            size = 0 if scope["method"] == "HEAD" else answer.size  # the server leaves the body out
            self.write(scope, answer.status, size, self._monotonic() - started)

    def write(self, scope: HttpScope, status: int | None, size: int, duration_secs: float) -> None:
        """Logs the request. `status` is None if no answer began, as when the server ends. `size` is that of the body
        of the answer as far as it was sent, in bytes.
        """
        caller: Caller | None = scope.get(IDENTITY)
        instance, path = instance_of(scope), scope["path"]
        fields: dict[str, Any] = {
            "address": source_of(scope),
            "actor_name": None if caller is None else caller.name,
            "method": scope["method"],
            "path": path if path in self._known_paths else shown_path(path),
            "status": status,
            "bytes": size,
            "duration_ms": round(duration_secs * 1000, 3),
            **instance_fields(instance),
        }
        further = {"request_id": request_id(scope), "trace_id": trace_id(scope), "instance": instance}
        log.info(
            '%s %s "%s %s" %s %d %.3fms%s',
            *(fields["address"] or "-", fields["actor_name"] or "-", fields["method"], fields["path"]),
            *(status or "-", size, fields["duration_ms"]),
            "".join(f" {name}={value}" for name, value in further.items() if value is not None),
            extra={"event": "http.request", **fields},
        )


class _AnswerNotes:
    """Notes the status and the size of an answer on its way, whichever of its two ways that is."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.size = 0

    def watch_prepared(self, scope: Scope) -> None:
        """Takes the place of the short way of prepared responses, if the server has it, and then takes that way."""
        send_prepared = scope.get(SEND_PREPARED)
        if send_prepared is None:
            return

        def noting(_send: Send, response: PreparedResponse) -> bool:
            if not send_prepared(self._send, response):
                return False
            self.status, self.size = response.status_code, len(response.content)
            return True

        scope[SEND_PREPARED] = noting

    async def send(self, message: Message) -> None:
        """As ASGI's `send`."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def shown_path(path: str) -> str:
    """A stranger's path, percent-encoded, cut, and without what may be a secret in it."""
    return quote(mask_url(mask_tokens(path)), safe="/:@*", errors="replace")[:MAX_PATH_CHARS]
