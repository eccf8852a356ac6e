"""Errors as answers: problem details (RFC 9457) with a stable `code`. No other module makes them."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from starlette.exceptions import HTTPException

from dbgpt_ctl.controller.http.prepared import PreparedResponse
from dbgpt_ctl.controller.http.request import header_map
from dbgpt_ctl.errors import AccessRefused, CtlError, InvalidInstance, NotAuthenticated, NotFound, RegistryUnavailable
from dbgpt_ctl.settings.masking import mask_own_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.domain.instance import InstanceKey

log = logging.getLogger(__name__)

CHALLENGE = {"WWW-Authenticate": 'Basic realm="dbgpt_ctl", Bearer realm="dbgpt_ctl"'}
"""RFC 9110 requires it with each 401."""
PAGE_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dbgpt_ctl"'}
"""For requests that scripts of a page send: at Basic a browser opens a dialog of its own over the page."""
MEDIA_TYPE = "application/problem+json"
SESSION_PATHS = frozenset({"/api/v1/session", "//api/v1/session"})
"""The paths of the routes of the console's session. They are for everyone."""


class InternalError(CtlError):
    """The controller failed to serve this request; its log says why."""

    code = "internal_error"
    title = "Internal error"


class UnknownInstance(NotFound):
    """No instance has this identity."""

    def __init__(self, key: InstanceKey) -> None:
        super().__init__(f"{key} is not known; `ctl models list` shows what is")
        self.key = key


async def answer(request: Request, error: Exception) -> Response:
    """The answer to any error. An unexpected error is logged with its traceback; its text is not sent, because it may
    hold secrets.
    """
    match error:
        case CtlError():
            return of_error(error, challenge_of(request.scope))
        case HTTPException():
            title = HTTPStatus(error.status_code).phrase
            detail = f"{request.method} {request.url.path!a}: {error.detail}"
            return _problem(error.status_code, title.lower().replace(" ", "_"), title, detail, error.headers)
        case _:
            log.error("%s %a failed", request.method, request.url.path, exc_info=error, extra={"event": "http.failed"})
            return of_error(InternalError("the controller failed at this request; its log says why"))


def challenge_of(scope: MutableMapping[str, Any]) -> Mapping[str, str]:
    """The challenge of a 401 to this request. Browsers send `Sec-Fetch-Mode` to https and to loopback only. So the page
    also sends the header `X-Requested-With`, as is customary. A module that this release does not have is wanted by a
    page of another one, and its request has no such header.
    """
    headers = header_map(scope)
    is_page = (
        headers.get(b"sec-fetch-mode", b"navigate") != b"navigate"
        or headers.get(b"x-requested-with") == b"XMLHttpRequest"
        or scope["path"] in SESSION_PATHS
        or scope["path"].startswith("/console/")
    )
    return PAGE_CHALLENGE if is_page else CHALLENGE


def of_error(error: CtlError, challenge: Mapping[str, str] = CHALLENGE) -> Response:
    """The answer to an error that was raised on purpose; a 401 has the challenge."""
    extra: dict[str, Any] = {}
    if isinstance(error, InvalidInstance):
        extra = {"field": error.field}
    elif isinstance(error, AccessRefused):
        extra = {"reason": error.reason}
    elif isinstance(error, UnknownInstance):  # distinguishes it from the 404 of an unknown path
        extra = {"instance_key": error.key._asdict()}
    headers: Mapping[str, str] | None = None
    if isinstance(error, RegistryUnavailable):
        headers = {"Retry-After": str(error.retry_after)}
    elif isinstance(error, NotAuthenticated):
        headers = challenge
    return _problem(error.http_status, error.code, error.title, str(error), headers, **extra)


def _problem(status: int, code: str, title: str, detail: str, headers: Any = None, **extra: Any) -> Response:
    """Without a token that somebody put into a field or the path: the answer may end up in the log of its client."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **extra}
    return PreparedResponse(mask_own_tokens(orjson.dumps(body).decode()).encode(), MEDIA_TYPE, headers, status)
