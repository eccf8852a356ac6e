"""Lists of very many instances: their bytes are made once, shared by their readers, and sent in pieces.

A list of 200,000 instances has 50 to 100 MB. A copy for each reader would let some readers that stall take all memory.
The text of the metrics is sent in this way too: it may have some MB, and another one is made each second.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from fastapi.responses import Response

from dbgpt_ctl.wire.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping

    from starlette.types import Receive, Scope, Send

    from dbgpt_ctl.controller.auth.long_answers import LongAnswers
    from dbgpt_ctl.domain.instance import ListedInstance
    from dbgpt_ctl.errors import AccessRefused
    from dbgpt_ctl.registry.contract import Listing

LARGE = 5000
"""A list of more instances is large. Smaller ones are sent at once: one has 1 to 4 MB at most."""
INSTANCES_PER_PIECE = 1000
"""This many are encoded before other requests have their turn, which takes some milliseconds, and sent before the
reader must take them.
"""
MAX_HELD_BYTES = 200_000_000
"""While readers hold more than this, the slowest are dropped before another list is encoded."""
SLOW_SECS = 1.0
"""A reader that takes longer for one piece may be dropped."""
LOOK_SECS = 0.05


class EncodedList:
    """The instances of a list as JSON, without the brackets around them, or the text of the metrics. Its bytes are
    never copied.
    """

    __slots__ = ("__weakref__", "pieces", "size")

    def __init__(self, pieces: tuple[bytes, ...]) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))


class LargeLists:
    """The large lists that are being sent, and the encodings that they share.

    `drop` ends the connection of the client with this address and port; it returns whether it could.
    """

    def __init__(self, drop: Callable[[Any], bool], long_answers: LongAnswers) -> None:
        self._drop = drop
        self._long_answers = long_answers
        self._encoding = asyncio.Lock()
        self._shared: WeakKeyDictionary[Listing, WeakValueDictionary[Hashable, EncodedList]] = WeakKeyDictionary()
        self._answers: set[LargeListResponse] = set()

    @property
    def held_bytes(self) -> int:
        """How much memory the lists have that are being sent."""
        return sum(encoded.size for encoded in {answer.encoded for answer in self._answers})

    async def encoded(
        self,
        listing: Listing,
        read: Callable[[], Awaitable[Listing]],
        encode: Callable[[ListedInstance], dict[str, Any]],
        *,
        selected: Callable[[ListedInstance], bool] | None = None,
        key: Hashable = None,
    ) -> tuple[Listing, EncodedList]:
        """The list, or a newer one of `read`, and its encoding. Calls with equal `key` share it while one of them sends
        it. One list is encoded at a time, and calls that wait for that hold none meanwhile.
        """
        if (found := self._find(listing, key)) is not None:
            return listing, found
        must_wait = self._encoding.locked() or self.held_bytes > MAX_HELD_BYTES
        if must_wait:
            del listing
        async with self._encoding:
            await self.make_room()
            if must_wait:
                listing = await read()
                if (found := self._find(listing, key)) is not None:
                    return listing, found
            chosen = listing.entries if selected is None else filter(selected, listing.entries)
            made = EncodedList(await encoded_in_turns(map(encode, chosen)))
        self._shared.setdefault(listing, WeakValueDictionary())[key] = made
        return listing, made

    def answer(
        self,
        encoded: EncodedList,
        media_type: str | None,
        headers: Mapping[str, str] | None,
        around: tuple[bytes, bytes] = (b"", b""),
    ) -> Response:
        """A response with the encoded instances between two texts. `media_type` is None if `headers` say it."""
        return LargeListResponse(self._answers, encoded, media_type, headers, around, long_answers=self._long_answers)

    def _find(self, listing: Listing, key: Hashable) -> EncodedList | None:
        of_listing = self._shared.get(listing)
        return None if of_listing is None else of_listing.get(key)

    async def make_room(self) -> None:
        """Waits until readers hold less, and drops those that are too slow, the slowest first. Call it before a large
        answer is encoded.
        """
        loop = asyncio.get_running_loop()
        while self.held_bytes > MAX_HELD_BYTES:
            slowest = min(self._answers, key=lambda answer: answer.waits_since)
            if loop.time() - slowest.waits_since < SLOW_SECS:
                await asyncio.sleep(LOOK_SECS)
                continue
            self._answers.discard(slowest)
            if not self._drop(slowest.client):
                return  # the server is not ours, and bounds its connections itself


class LargeListResponse(Response):
    """Sends the pieces one by one, each when the reader has taken most of the one before."""

    def __init__(
        self,
        answers: set[LargeListResponse],
        encoded: EncodedList,
        media_type: str | None,
        headers: Mapping[str, str] | None,
        around: tuple[bytes, bytes],
        *,
        long_answers: LongAnswers,
    ) -> None:
        length = len(around[0]) + encoded.size + len(around[1])
        super().__init__(headers={**(headers or {}), "content-length": str(length)}, media_type=media_type)
        self.encoded = encoded
        self.client: Any = None
        self.waits_since = 0.0
        """The event loop's time since when the reader is to take the current piece."""
        self._answers = answers
        self._long_answers = long_answers
        self._around = around

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        self.client, self.waits_since = scope.get("client"), asyncio.get_running_loop().time()
        self._answers.add(self)
        try:
            with self._long_answers.sent(scope, _no_last_message):
                await self._send(send)
        finally:
            self._answers.discard(self)

    async def _send(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in (self._around[0], *self.encoded.pieces):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.waits_since = loop.time()
        await send({"type": "http.response.body", "body": self._around[1]})


def _no_last_message(_error: AccessRefused) -> None:
    """A list has no place for a reason: the connection is dropped."""


async def encoded_in_turns(objects: Iterable[Any]) -> tuple[bytes, ...]:
    """The objects or structs as JSON, in pieces, with commas between. Other requests have their turn meanwhile."""
    pieces: list[bytes] = []
    iterator = iter(objects)
    while batch := list(islice(iterator, INSTANCES_PER_PIECE)):
        text = encoded(batch)[1:-1]
        pieces.append(b"," + text if pieces else text)
        await asyncio.sleep(0)
    return tuple(pieces)
