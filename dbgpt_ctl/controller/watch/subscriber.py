"""One who watches: what it is to be sent next, in order and once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.api.params import Cursor
from dbgpt_ctl.controller.watch import messages
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from dbgpt_ctl.controller.api.params import InstanceFilter
    from dbgpt_ctl.controller.watch.feed import Feed

MAX_BATCH_BYTES = 64 * 1024
RETRY_SECS = 0.5


class Watcher:
    """Of the instances that `which` admits. Nothing is kept for it but its position in the feed's ring."""

    def __init__(self, feed: Feed, which: InstanceFilter, cursor: Cursor | None) -> None:
        self._feed = feed
        self._which = which
        self._asked = cursor
        self._after = 0
        """The number of the last event that was dealt with; none up to it is sent."""
        self._position: int | None = None
        """In the ring; None while it has to catch up from the registry."""
        self._ahead = False
        """Of what the feed has read: the registry itself has said that there is nothing newer."""
        self._stream = ""
        self._woken = asyncio.Event()
        self._keep_alive = False
        self._gone = False

    def wake(self, *, keep_alive: bool = False) -> None:
        """There is news, or it is time for a sign of life."""
        self._keep_alive |= keep_alive
        self._woken.set()

    def gone(self) -> None:
        """Nobody reads any more."""
        self._gone = True
        self._woken.set()

    def place(self) -> None:
        """Where it begins: called once the feed reads."""
        now = self._feed.cursor
        self._stream = now.stream
        start = self._asked if self._asked is not None and self._asked.stream == now.stream else now
        self._after = start.number
        self._position = self._feed.position_after(start)

    async def messages(self) -> AsyncGenerator[bytes]:
        """What to send, many messages at a time, until nobody reads, the ring has passed, or the controller leaves.

        Where it ends by itself, the last message says why.
        """
        try:
            async for first in self._beginning():
                yield first
            while not self._gone:
                batch = self._batch()
                if batch is None:
                    yield messages.dropped()
                    return
                if batch:
                    yield batch
                elif self._feed.leaving:
                    yield messages.leaving()
                    return
                elif self._keep_alive:
                    self._keep_alive = False
                    yield messages.KEEP_ALIVE
                else:
                    await self._woken.wait()
                    self._woken.clear()
        finally:
            self.left()

    def left(self) -> None:
        """It watches no more."""
        self._feed.left(self)

    async def _beginning(self) -> AsyncGenerator[bytes]:
        start = Cursor(self._stream, self._after)
        yield messages.ready(start)
        if self._asked is not None and self._asked.stream != self._stream:
            yield messages.reset("the cursor is of another registry, or of before its start", start)
        while self._position is None or (self._after > self._feed.cursor.number and not self._ahead):
            try:
                data = await self._from_registry()
            except CtlError:
                await asyncio.sleep(RETRY_SECS)
                data = b""
            if data:
                yield data
            if self._gone or self._feed.leaving:
                return

    async def _from_registry(self) -> bytes:
        """The next page of what the ring no longer has, or does not have yet."""
        async with self._feed.catching_up:
            page = await self._feed.page(self._after)
            await asyncio.sleep(0)
        if page.stream != self._stream or page.missed or page.last_id < self._after:
            return messages.reset("changes after the cursor are forgotten", self._to_now())
        if page.events:
            self._after = page.events[-1].id
            self._position = self._feed.position_after(Cursor(self._stream, self._after))
        else:  # all that is newer the ring will have
            self._position, self._ahead = self._feed.head, True
        wanted = [each for each in page.events if self._which.matches(each.change.key)]
        return b"".join(self._feed.encoded(each, page.stream).data for each in wanted)

    def _to_now(self) -> Cursor:
        self._stream, self._after = self._feed.cursor
        self._position = self._feed.head
        return self._feed.cursor

    def _batch(self) -> bytes | None:
        """What the ring has for it, as far as it fits; None when the ring has passed."""
        position, size, batch = self._position or 0, 0, []
        while position < self._feed.head and size < MAX_BATCH_BYTES:
            entry = self._feed.entry(position)
            if entry is None:
                return None
            position += 1
            if entry.number is None:  # a reset: numbers begin anew
                self._after = 0
            elif entry.number <= self._after or entry.key is None or not self._which.matches(entry.key):
                continue
            else:
                self._after = entry.number
            batch.append(entry.data)
            size += len(entry.data)
        self._position = position
        return b"".join(batch)
