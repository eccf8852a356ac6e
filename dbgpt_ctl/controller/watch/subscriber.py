"""One watch: which messages its client gets next, in order and once, and the response that sends them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi.responses import StreamingResponse

from dbgpt_ctl.controller.http.routes import EVENT_STREAM
from dbgpt_ctl.controller.http.v1_params import Cursor
from dbgpt_ctl.controller.watch import messages as sse
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from dbgpt_ctl.controller.auth.long_answers import LongAnswers
    from dbgpt_ctl.controller.watch.messages import EventRing
    from dbgpt_ctl.domain.events import EventPage
    from dbgpt_ctl.domain.filters import InstanceFilter
    from dbgpt_ctl.errors import AccessRefused

MAX_BATCH_BYTES = 16 * 1024
"""So much, and not more than twice, waits in memory for a watcher that never reads."""
RETRY_SECS = 0.5
HEADERS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold messages back until they fill a page
}


class Subscriber:
    """A position in the filled ring, from `cursor` or from now on, for the instances that the filter selects.

    `read_events` reads events that the ring does not have any more; `on_end` is called, possibly again, at the end.
    """

    def __init__(
        self,
        ring: EventRing,
        instance_filter: InstanceFilter,
        cursor: Cursor | None,
        *,
        read_events: Callable[[int], Awaitable[EventPage]],
        on_end: Callable[[Subscriber], None],
    ) -> None:
        self._ring = ring
        self._filter = instance_filter
        self._requested = cursor
        self._read_events = read_events
        self._on_end = on_end
        now = ring.cursor
        self._stream = now.stream
        begin = cursor if cursor is not None and cursor.stream == now.stream else now
        self._after = begin.number
        """The number of the last event that was handled; none up to it is sent."""
        self._position = ring.position_after(begin) if begin.number <= now.number else None
        """In the ring; None while events must be read from the registry."""
        self._keep_alives = ring.keep_alives
        self._last: bytes | None = None
        """The last message, once there is nothing more for this client."""
        self.ended_by = "client"
        """Why it ended: client (it left), slow, refused, or leaving (the controller is)."""

    async def messages(self) -> AsyncGenerator[bytes]:
        """What to send, many messages at a time, until the client is too slow or refused, or the controller leaves.

        The last message of a watch that the controller ends holds the reason.
        """
        async for data in self._first_messages():
            yield data
        while self._last is None:
            await self._ring.turn()
            if (batch := self._batch()) is None:
                break
            if batch:
                yield batch
            elif self._ring.leaving:
                self.ended_by = "leaving"
                yield sse.LEAVING
                return
            elif self._keep_alives != self._ring.keep_alives:
                self._keep_alives = self._ring.keep_alives
                yield sse.KEEP_ALIVE
            else:
                await self._ring.changed.wait()
        if self._last is None:
            self.ended_by = "slow"
            self._last = sse.DROPPED
        yield self._last

    def end(self) -> None:
        """It gets no more messages. Repeatable."""
        self._on_end(self)

    def refuse(self, error: AccessRefused) -> None:
        """The next message says why, and is the last one."""
        self.ended_by = "refused"
        self._last = sse.refused_message(error)
        self._ring.wake()

    async def _first_messages(self) -> AsyncGenerator[bytes]:
        """The message `ready`, and the events that the ring does not have."""
        begin = Cursor(self._stream, self._after)
        yield sse.ready_message(begin)
        if self._requested is not None and self._requested.stream != self._stream:
            yield sse.reset_message("the cursor is of another registry, or of before its start", begin)
        while self._position is None:
            try:
                data = await self._from_registry()
            except CtlError:
                await asyncio.sleep(RETRY_SECS)
                data = b""
            if data:
                yield data
            if self._ring.leaving or self._last is not None:
                return

    async def _from_registry(self) -> bytes:
        """The next page of events that the ring has no more, or not yet."""
        page = await self._read_events(self._after)
        if page.stream != self._stream or page.missed or page.last_id < self._after:
            self._stream, self._after = self._ring.cursor
            self._position = self._ring.head
            return sse.reset_message("changes after the cursor are forgotten", self._ring.cursor)
        self._after, messages, size = page.next_after, [], 0
        for event in page.events:
            if self._filter.matches_key(event.change.key):
                messages.append(sse.change_message(event, page.stream))
                size += len(messages[-1])
                if size >= MAX_BATCH_BYTES:  # the others are read again
                    self._after = event.id
                    break
        self._position = self._ring.position_after(Cursor(self._stream, self._after))
        return b"".join(messages)

    def _batch(self) -> bytes | None:
        """The next messages from the ring, up to MAX_BATCH_BYTES; None when the next one is overwritten."""
        position, size, batch = self._position or 0, 0, []
        while position < self._ring.head and size < MAX_BATCH_BYTES:
            entry = self._ring.entry(position)
            if entry is None:
                return None
            position += 1
            if entry.number is None:  # a reset: numbers begin anew
                self._after = 0
            elif entry.number <= self._after or entry.key is None or not self._filter.matches_key(entry.key):
                continue
            else:
                self._after = entry.number
            batch.append(entry.data)
            size += len(entry.data)
        self._position = position
        return b"".join(batch)


class WatchResponse(StreamingResponse):
    """Each write waits until the client has taken most of the previous one: a slow client costs one buffer.

    FastAPI has an EventSourceResponse. It gives each connection a queue and a timer, and encodes each message for each
    connection. Here all connections share one reader and one encoding, and all waiting messages go out in one write.
    """

    media_type = EVENT_STREAM

    def __init__(self, subscriber: Subscriber, long_answers: LongAnswers) -> None:
        super().__init__(subscriber.messages(), headers=HEADERS)
        self._subscriber = subscriber
        self._long_answers = long_answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._long_answers.sent(scope, self._subscriber.refuse):
                await super().__call__(scope, receive, send)
        finally:
            self._subscriber.end()
