"""A request: its caller, and its body, a JSON object of bounded size (413 beyond that)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from dbgpt_ctl.auth.tokens import Role
from dbgpt_ctl.controller.http.callers import IDENTITY, check_again
from dbgpt_ctl.controller.http.source import source_of
from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.fields import parse_registration, quoted
from dbgpt_ctl.domain.hosts import require_registrable
from dbgpt_ctl.errors import BodyTooLarge, InvalidInstance, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from fastapi import Request

    from dbgpt_ctl.controller.http.callers import Caller
    from dbgpt_ctl.domain.instance import Registration


MAX_BODY_BYTES = 64 * 1024
JSON = b"application/json"
HEADERS = "dbgpt_ctl.headers"
"""Key in a request's scope: its headers by name, the last of each name."""
REGISTRATION = "dbgpt_ctl.registration"
"""Key in a request's scope: the Registration that its body holds, once it is parsed; a span shows it."""

_MAY_BE_OPERATORS = (None, Role.OPERATOR)
"""The roles with which a claim to be an operator counts; None is that of a sender without a valid token."""


def header_map(scope: MutableMapping[str, Any]) -> dict[bytes, bytes]:
    """The headers by name in lower case; of a header that was sent twice, the last value.

    It is made once per request, and not of Starlette's `Headers`, which costs a tenth of a heartbeat.
    """
    headers: dict[bytes, bytes] | None = scope.get(HEADERS)
    if headers is None:
        headers = scope[HEADERS] = dict(scope["headers"])
    return headers


def caller(request: Request, kind: ActorKind = ActorKind.WORKER) -> Actor:
    """The caller, with its address and the name of its token: an operator if a header says so, else of the given kind.

    The header is a claim. A valid token is a proof: with one of another role than operator, the caller is a worker.
    """
    scope = request.scope
    sender: Caller | None = scope.get(IDENTITY)
    if header_map(scope).get(b"x-ctl-actor") == b"operator":
        kind = ActorKind.OPERATOR
    if sender is None:
        return Actor(kind, source_of(scope))
    return Actor(kind if sender.role in _MAY_BE_OPERATORS else ActorKind.WORKER, source_of(scope), sender.name)


async def registration(request: Request, *, deny_loopback: bool) -> Registration:
    """The instance that the body describes. Raises as `json_object` and `registered`."""
    return registered(request, await json_object(request), deny_loopback=deny_loopback)


def registered(request: Request, fields: dict[str, Any], *, deny_loopback: bool) -> Registration:
    """The instance that the fields describe. It is also noted in the request's scope. Raises InvalidInstance, also for
    a host that may not be registered.
    """
    parsed = request.scope[REGISTRATION] = parse_registration(fields)
    require_registrable(parsed.key.host, deny_loopback=deny_loopback)
    return parsed


async def json_object(request: Request) -> dict[str, Any]:
    """The body. Raises UnsupportedMediaType, BodyTooLarge (before the whole body is read) and InvalidInstance; and
    AccessRefused if the caller's token is not valid any more when the body is there.
    """
    headers = header_map(request.scope)
    media_type, declared_length = headers.get(b"content-type", b""), headers.get(b"content-length", b"")
    if media_type != JSON and not is_json(media_type):
        raise UnsupportedMediaType(
            f"content type {quoted(media_type.decode('latin-1'))} is not JSON; send Content-Type: application/json"
        )
    if declared_length.isdigit() and int(declared_length) > MAX_BODY_BYTES:
        raise _too_large()
    body = await _read(request)
    check_again(request.scope)
    return _json_object(body)


def is_json(media_type: bytes) -> bool:
    """Whether a Content-Type declares JSON. This is as strict as DB-GPT: a page in an operator's browser cannot send
    JSON to another site without that site's consent, but it can send any other type.
    """
    essence = media_type.partition(b";")[0].strip().lower()
    return essence == JSON or (essence.startswith(b"application/") and essence.endswith(b"+json"))


def _json_object(body: bytearray) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInstance("body", f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidInstance("body", "the body is not a JSON object")
    return fields


async def _read(request: Request) -> bytearray:
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":  # nobody reads the answer
            raise InvalidInstance("body", "the caller closed the connection before the body was complete")
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        more = message.get("more_body", False)
    return body


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
