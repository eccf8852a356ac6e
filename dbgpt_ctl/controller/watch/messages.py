"""The messages of a watch as server-sent events, and the ring of the newest ones, which all subscribers share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

import orjson

from dbgpt_ctl.controller.http.serializers import event_object
from dbgpt_ctl.controller.http.v1_params import Cursor

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.errors import AccessRefused

BATCHES_PER_TURN = 50
"""This many batches go out before other requests have their turn, which takes some milliseconds."""
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


def refused_message(error: AccessRefused) -> bytes:
    """The last message to a client whose token does not allow this watch any more."""
    return _message("refused", {"reason": str(error), "code": error.code})


def _message(name: str, data: dict[str, str], cursor: Cursor | None = None) -> bytes:
    identity = b"" if cursor is None else b"id: %b\n" % str(cursor).encode()
    return b"event: %b\n%bdata: %b\n\n" % (name.encode(), identity, orjson.dumps(data))


DROPPED = _message("dropped", {"reason": "this reader is too slow: go on from the last id"})
"""The last message to a client that is too slow."""
LEAVING = _message("leaving", {"reason": "this controller ends: go on at another from the last id"})
"""The last message of a controller that ends."""


class Entry(NamedTuple):
    """One message: a change with its `number` and the identity that it is of; a reset has neither and is for all."""

    number: int | None
    key: InstanceKey | None
    data: bytes


class EventRing:
    """Keeps the newest `size` entries at positions that only rise; a subscriber holds a position and no copies.

    `head` is the position of the next entry, `cursor` that of the newest event. `leaving`: the controller ends, and no
    entry follows. `keep_alives` is how often it was time for a comment that keeps connections alive. `changed` is set,
    and replaced, when any of these changes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.head = 0
        self.cursor = Cursor("", 0)
        self.leaving = False
        self.keep_alives = 0
        self.changed = asyncio.Event()
        self._batches = asyncio.Semaphore(BATCHES_PER_TURN)
        self._entries: list[Entry | None] = [None] * size

    def wake(self) -> None:
        """Lets everything that waits for `changed` go on."""
        self.changed.set()
        self.changed = asyncio.Event()

    async def turn(self) -> None:
        """Waits until one more batch may go out: BATCHES_PER_TURN of all subscribers in one turn of the event loop."""
        await self._batches.acquire()
        asyncio.get_running_loop().call_soon(self._batches.release)

    def append(self, entry: Entry) -> None:
        """Replaces the oldest entry."""
        self._entries[self.head % self.size] = entry
        self.head += 1

    def clear(self) -> None:
        """Forgets all entries; positions rise on."""
        self._entries = [None] * self.size

    def entry(self, position: int) -> Entry | None:
        """The entry at a position; None when it is overwritten."""
        if position <= self.head - 1 - self.size:
            return None
        return self._entries[position % self.size]

    def position_after(self, cursor: Cursor) -> int | None:
        """The position of the first entry beyond `cursor`; None when the ring does not reach back that far."""
        if cursor.stream != self.cursor.stream:
            return None
        position = self.head
        while (entry := self.entry(position - 1)) is not None and entry.number is not None:
            if entry.number <= cursor.number:
                return position
            position -= 1
            if entry.number == cursor.number + 1:  # numbers have no gaps
                return position
        return self.head if cursor.number >= self.cursor.number else None
