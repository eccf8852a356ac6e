"""The one reader of the registry's events that all watches of a controller share.

It encodes each event once, into a ring in which subscribers hold positions. A subscriber whose position is overwritten
is dropped; the registry still has the events, so its client can continue from its last id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.http.v1_params import Cursor
from dbgpt_ctl.controller.watch import messages as sse
from dbgpt_ctl.controller.watch.messages import Entry, EventRing
from dbgpt_ctl.controller.watch.subscriber import Subscriber
from dbgpt_ctl.errors import CtlError, RegistryUnavailable, TooManyWatchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.domain.events import Event, EventPage
    from dbgpt_ctl.domain.filters import InstanceFilter
    from dbgpt_ctl.registry.contract import ModelRegistry

log = logging.getLogger(__name__)

RING_SIZE = 4096
PAGE = 1000
MISSED_PAGE = 100
"""Events that one watcher reads at a time from the registry: it holds them until its client takes them."""
EVENTS_PER_TURN = 200
"""This many events are encoded before heartbeats have their turn."""
MAX_WATCHERS = 10_000
KEEP_ALIVE_SECS = 10.0
UNAVAILABLE_PAUSE_SECS = 0.5
"""The pause after a registry could not answer."""


class Feed:
    """Reads every `poll_secs` while there are subscribers, and less often with very many of them.

    `registry` returns the current registry. Another registry, or one that has forgotten events that were not read yet,
    is a `reset` for all subscribers.
    """

    def __init__(
        self,
        registry: Callable[[], ModelRegistry],
        *,
        poll_secs: float = 0.2,
        ring_size: int = RING_SIZE,
        max_watchers: int = MAX_WATCHERS,
        keep_alive_secs: float = KEEP_ALIVE_SECS,
    ) -> None:
        self._registry = registry
        self._poll_secs = poll_secs
        self.max_watchers = max_watchers
        self._keep_alive_secs = keep_alive_secs
        self._ring = EventRing(ring_size)
        self._subscribers: set[Subscriber] = set()
        self._reader: asyncio.Task[None] | None = None
        self.closed: Counter[str] = Counter()
        """How many watches ended, by `Subscriber.ended_by`."""
        self._subscribing = 0  # calls of `subscribe` that wait for the ring to be filled
        self._filling = asyncio.Lock()
        self._catching_up = asyncio.Lock()

    @property
    def watchers(self) -> int:
        """How many watches there are."""
        return len(self._subscribers)

    @property
    def leaving(self) -> bool:
        """Whether the controller ends."""
        return self._ring.leaving

    def leave(self) -> None:
        """Subscribers get a last message, and new ones are refused."""
        self._ring.leaving = True
        self._ring.wake()

    async def subscribe(self, instance_filter: InstanceFilter, cursor: Cursor | None) -> Subscriber:
        """A subscriber from after `cursor`, or from now on. Its `messages` must be read, or it must be ended.

        Raises RegistryUnavailable while there is no registry to read from and when the controller leaves, and
        TooManyWatchers.
        """
        if self.watchers + self._subscribing >= self.max_watchers:
            raise TooManyWatchers(
                f"this controller serves {self.max_watchers} watchers already; end some, or ask another controller"
            )
        self._subscribing += 1
        try:
            self._refuse_when_leaving()
            async with self._filling:
                self._refuse_when_leaving()
                if self._reader is None:
                    await self._fill_ring()
                    self._reader = asyncio.create_task(self._read(), name="read events")
                subscriber = Subscriber(
                    self._ring, instance_filter, cursor, read_events=self._read_missed_events, on_end=self._unsubscribe
                )
                self._subscribers.add(subscriber)
        finally:
            self._subscribing -= 1
        return subscriber

    def _refuse_when_leaving(self) -> None:
        if self.leaving:
            raise RegistryUnavailable("this controller is leaving")

    def _unsubscribe(self, subscriber: Subscriber) -> None:
        if subscriber not in self._subscribers:
            return
        self._subscribers.discard(subscriber)
        self.closed[subscriber.ended_by] += 1
        if not self._subscribers and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    async def _read_missed_events(self, after: int) -> EventPage:
        """Events that the ring does not have any more. One subscriber at a time reads them: other subscribers, and
        heartbeats, have their turn after each page.
        """
        async with self._catching_up:
            page = await self._registry().events(after=after, limit=MISSED_PAGE)
            await asyncio.sleep(0)
        return page

    async def _fill_ring(self) -> None:
        """Reads the newest events, or those since the last subscriber ended. Most clients that come back then find in
        the ring what they missed.
        """
        ring, registry = self._ring, self._registry()
        after = ring.cursor.number if ring.cursor.stream else None
        page = await registry.events(after=after, limit=ring.size)
        if after is not None and (page.missed or page.stream != ring.cursor.stream or page.last_id - after > ring.size):
            ring.clear()
            page = await registry.events(limit=ring.size)
        for number, event in enumerate(page.events, 1):
            self._append(event, page.stream)
            if number % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
        ring.cursor = Cursor(page.stream, page.last_id)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        keep_alive_at = loop.time() + self._keep_alive_secs
        while True:
            pause = self._poll_secs + min(self.watchers / 10_000, 0.25)
            try:
                page = await self._registry().events(after=self._ring.cursor.number, limit=PAGE)
                if self._take(page):
                    self._ring.wake()
                    pause = pause if page.next_after == page.last_id else 0.0
            except CtlError:  # health reports it, and watches continue
                pause = max(pause, UNAVAILABLE_PAUSE_SECS)
            except Exception:  # whatever it is, watches continue
                log.exception("the events could not be read")
                pause = max(pause, UNAVAILABLE_PAUSE_SECS)
            if loop.time() >= keep_alive_at:
                keep_alive_at = loop.time() + self._keep_alive_secs
                self._ring.keep_alives += 1
                self._ring.wake()
            await asyncio.sleep(pause)

    def _take(self, page: EventPage) -> bool:
        """Appends the page to the ring; whether there is anything new."""
        if page.stream != self._ring.cursor.stream or page.missed:
            reason = "changes are forgotten that were not sent yet" if page.missed else "the registry was started anew"
            self._ring.cursor = Cursor(page.stream, page.last_id)
            self._ring.append(Entry(None, None, sse.reset_message(reason, self._ring.cursor)))
            return True
        for event in page.events:
            self._append(event, page.stream)
        self._ring.cursor = Cursor(page.stream, page.next_after)
        return bool(page.events)

    def _append(self, event: Event, stream: str) -> None:
        self._ring.append(Entry(event.id, event.change.key, sse.change_message(event, stream)))

    async def close(self) -> None:
        """Ends the reader. Repeatable."""
        self.leave()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
