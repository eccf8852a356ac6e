"""One reader of the registry's events, however many watch: encoded once, kept in a ring that all share.

Watchers hold a position in the ring, no copies. One that the ring has passed is told so and let go; what it missed the
registry still has, so it can come back with its last id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.controller.api.params import Cursor
from dbgpt_ctl.controller.watch import messages
from dbgpt_ctl.controller.watch.subscriber import Watcher
from dbgpt_ctl.errors import CtlError, RegistryUnavailable, TooManyWatchers

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.controller.api.params import InstanceFilter
    from dbgpt_ctl.domain.events import Event, EventPage
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import ModelRegistry

log = logging.getLogger(__name__)

RING = 4096
PAGE = 1000
SLICE = 200
"""So many are encoded in one go."""
MAX_WATCHERS = 10_000
KEEP_ALIVE_SECS = 10.0
AWAY_SECS = 0.5
"""How often a registry is asked that could not answer."""


class Entry(NamedTuple):
    """What watchers are sent; of the event `number`, or, with none, for all: a reset."""

    number: int | None
    key: InstanceKey | None
    data: bytes


class Feed:
    """Reads every `poll_secs`, and less often with very many watchers: what came meanwhile goes out together.

    It reads only while somebody watches. `registry` gives the registry of the moment; another one, or one that has
    forgotten what was not read yet, is a `reset` to all.
    """

    def __init__(
        self,
        registry: Callable[[], ModelRegistry],
        *,
        poll_secs: float = 0.2,
        ring: int = RING,
        max_watchers: int = MAX_WATCHERS,
        keep_alive_secs: float = KEEP_ALIVE_SECS,
    ) -> None:
        self._registry = registry
        self._poll_secs = poll_secs
        self._max_watchers = max_watchers
        self._keep_alive_secs = keep_alive_secs
        self._ring: list[Entry | None] = [None] * ring
        self._watching: set[Watcher] = set()
        self._reader: asyncio.Task[None] | None = None
        self._priming = asyncio.Lock()
        self.catching_up = asyncio.Lock()
        """Held by the one watcher that reads events which the ring no longer has: others, and heartbeats, have their
        turn after each page.
        """
        self.head = 0
        """How many entries there were ever: the position of the next."""
        self.cursor = Cursor("", 0)
        """Of the newest event that was read."""
        self.leaving = False

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watching)

    def leave(self) -> None:
        """Tells all watchers that this controller ends. None is taken any more."""
        self.leaving = True
        self._wake()

    async def join(self, which: InstanceFilter, cursor: Cursor | None) -> Watcher:
        """A watcher of those instances, from after `cursor`, or from now on. It must be `run`, or `left`.

        Raises RegistryUnavailable when there is nothing to read from yet, or this controller leaves; TooManyWatchers.
        """
        if self.leaving:
            raise RegistryUnavailable("this controller is leaving")
        if len(self._watching) >= self._max_watchers:
            raise TooManyWatchers(
                f"this controller serves {self._max_watchers} watchers already; end some, or ask another controller"
            )
        watcher = Watcher(self, which, cursor)
        self._watching.add(watcher)
        try:
            async with self._priming:
                if self._reader is None:
                    await self._prime()
                    self._reader = asyncio.create_task(self._read(), name="read events")
        except BaseException:
            self.left(watcher)
            raise
        watcher.place()
        return watcher

    def left(self, watcher: Watcher) -> None:
        """It watches no more. Repeatable."""
        self._watching.discard(watcher)
        if not self._watching and self._reader is not None:
            self._reader.cancel()
            self._reader = None

    def entry(self, position: int) -> Entry | None:
        """None where the ring has passed."""
        if position <= self.head - 1 - len(self._ring):
            return None
        return self._ring[position % len(self._ring)]

    def position_after(self, cursor: Cursor) -> int | None:
        """Of the first entry beyond it; None when the ring does not reach back so far."""
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

    async def page(self, after: int) -> EventPage:
        """Events that the ring no longer has."""
        return await self._registry().events(after=after, limit=PAGE)

    def encoded(self, event: Event, stream: str) -> Entry:
        """As it is sent."""
        return Entry(event.id, event.change.key, messages.change(event, stream))

    async def _prime(self) -> None:
        """Fills the ring with the newest events, or with what came since the last watcher left: most who resume then
        find there what they missed, and need no look of their own.
        """
        registry, room, after = self._registry(), len(self._ring), self.cursor.number if self.cursor.stream else None
        page = await registry.events(after=after, limit=room)
        if after is not None and (page.missed or page.stream != self.cursor.stream or page.last_id - after > room):
            self._ring = [None] * room
            page = await registry.events(limit=room)
        for number, event in enumerate(page.events, 1):
            self._append(self.encoded(event, page.stream))
            if number % SLICE == 0:
                await asyncio.sleep(0)  # heartbeats have their turn
        self.cursor = Cursor(page.stream, page.last_id)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        keep_alive_at = loop.time() + self._keep_alive_secs
        while True:
            pause = self._poll_secs + min(len(self._watching) / 10_000, 0.25)
            try:
                page = await self._registry().events(after=self.cursor.number, limit=PAGE)
                if self._take(page):
                    self._wake()
                    pause = 0.0 if len(page.events) == PAGE else pause
            except CtlError:  # health tells of a registry that is away; a watch outlives that
                pause = max(pause, AWAY_SECS)
            except Exception:  # so it does any error of a registry
                log.exception("the events could not be read")
                pause = max(pause, AWAY_SECS)
            if loop.time() >= keep_alive_at:
                keep_alive_at = loop.time() + self._keep_alive_secs
                self._wake(keep_alive=True)
            await asyncio.sleep(pause)

    def _take(self, page: EventPage) -> bool:
        """Whether there is anything new."""
        if page.stream != self.cursor.stream or page.missed:
            why = "changes are forgotten that were not told" if page.missed else "the registry was started anew"
            self.cursor = Cursor(page.stream, page.last_id)
            self._append(Entry(None, None, messages.reset(why, self.cursor)))
            return True
        for event in page.events:
            self._append(self.encoded(event, page.stream))
            self.cursor = Cursor(page.stream, event.id)
        return bool(page.events)

    def _append(self, entry: Entry) -> None:
        self._ring[self.head % len(self._ring)] = entry
        self.head += 1

    def _wake(self, *, keep_alive: bool = False) -> None:
        for watcher in self._watching:
            watcher.wake(keep_alive=keep_alive)

    async def close(self) -> None:
        """Ends the reader. Repeatable."""
        self.leave()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
