"""The messages of a watch as server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from dbgpt_ctl.controller.api.serializers import event_object

if TYPE_CHECKING:
    from dbgpt_ctl.controller.api.params import Cursor
    from dbgpt_ctl.domain.events import Event

KEEP_ALIVE = b": keep-alive\n\n"


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
