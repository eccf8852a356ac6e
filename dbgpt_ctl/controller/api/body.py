"""The body of a request: a JSON object of bounded size, or an error that says what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from dbgpt_ctl.errors import BodyTooLarge, InvalidInstance, UnsupportedMediaType

if TYPE_CHECKING:
    from fastapi import Request

MAX_BODY_BYTES = 64 * 1024
JSON = b"application/json"


async def json_object(request: Request) -> dict[str, Any]:
    """Raises UnsupportedMediaType, BodyTooLarge (before the body is read as a whole) and InvalidInstance."""
    media_type, declared = _headers(request)
    if media_type != JSON and not _is_json(media_type):
        shown = ascii(media_type.decode("latin-1"))[:60]
        raise UnsupportedMediaType(f"content type {shown} is not JSON; send Content-Type: application/json")
    if declared > MAX_BODY_BYTES:
        raise _too_large()
    try:
        fields = orjson.loads(await _read(request))
    except orjson.JSONDecodeError as error:
        raise InvalidInstance("body", f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidInstance("body", "the body is not a JSON object")
    return fields


def _headers(request: Request) -> tuple[bytes, int]:
    """Content type and declared length. Read from the scope: `Headers` would cost a tenth of a heartbeat."""
    media_type, declared = b"", 0
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            media_type = value
        elif name == b"content-length" and value.isdigit():
            declared = int(value)
    return media_type, declared


async def _read(request: Request) -> bytes | bytearray:
    message = await request.receive()
    if not message.get("more_body") and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        return body
    chunks = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise InvalidInstance("body", "the caller went away before the body was complete")  # nobody reads it
        chunks += message.get("body", b"")
        if len(chunks) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body"):
            return chunks
        message = await request.receive()


def _is_json(media_type: bytes) -> bool:
    """As strict as DB-GPT: a page in an operator's browser cannot send JSON to another site unasked, but it can send
    any other type.
    """
    essence = media_type.partition(b";")[0].strip().lower()
    return essence == JSON or (essence.startswith(b"application/") and essence.endswith(b"+json"))


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
