"""The event log of the embedded registry: numbered events, of which the old and the many are forgotten."""

from __future__ import annotations

import asyncio
import secrets
from bisect import bisect_right
from collections import Counter
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import ActorKind, Event, EventPage
from dbgpt_ctl.registry.contract import (
    MAX_EVENT_AGE,
    MAX_EVENTS,
    MAX_OPERATOR_EVENT_AGE,
    MAX_OPERATOR_EVENTS,
    NO_OBSERVER,
    RECENT_EVENTS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.events import Change, EventFilter, EventQuery
    from dbgpt_ctl.registry.contract import RegistryObserver

EXAMINED_PER_TURN = 5000
"""So many events are compared with a filter before heartbeats have their turn, which takes some 2 ms."""
SLACK = 1000
"""So many events more than a limit are kept, because to choose those that go takes some 5 ms."""
_ID = attrgetter("id")


def random_stream() -> str:
    """A name that no other stream of events has."""
    return secrets.token_hex(8)


class EventLog:
    """The events in lists by id: what operators did, and all others. `observer` gets the changes that are stored."""

    def __init__(
        self,
        stream: str,
        *,
        max_events: int = MAX_EVENTS,
        recent_events: int = RECENT_EVENTS,
        slack: int = SLACK,
        observer: RegistryObserver = NO_OBSERVER,
    ) -> None:
        self.stream = stream
        self.last_id = 0
        self._max_events = max_events
        self._recent_events = recent_events
        self._slack = slack
        self._observer = observer
        self._others = _Kept(MAX_EVENT_AGE)
        self._of_operators = _Kept(MAX_OPERATOR_EVENT_AGE)

    @property
    def events(self) -> tuple[Event, ...]:
        """All stored events, in order of id."""
        return tuple(merge(self._others.events, self._of_operators.events, key=_ID))

    def extend(self, changes: Sequence[Change]) -> None:
        """Numbers and stores the changes, in this order."""
        self._add(Event(number, change) for number, change in enumerate(changes, self.last_id + 1))
        self.last_id += len(changes)
        if len(self._others.events) >= self._max_events + self._slack:
            self._others.forget(self._surplus())
        if (extra := len(self._of_operators.events) - MAX_OPERATOR_EVENTS) >= self._slack:
            self._of_operators.forget(self._of_operators.events[:extra])
        if changes:
            self._observer.changes_written(changes)

    def forget_old(self, now: datetime) -> None:
        """Removes events that are too old; costs nothing when the oldest is young enough."""
        self._others.forget_old(now)
        self._of_operators.forget_old(now)

    async def page(self, query: EventQuery) -> EventPage:
        """As `ModelRegistry.events`. Other calls are served meanwhile; events that they write are in the next page."""
        after, where, limit = query
        stream, last_id, kept = self.stream, self.last_id, (self._others, self._of_operators)
        missed = after is not None and not max(part.lost_to for part in kept) <= after <= last_id
        complete_since, operator_complete_since = (part.complete_since for part in kept)
        parts = [part.events[::-1] if after is None else part.after(after) for part in kept]
        found = [await _first_matching(part, where, limit) for part in parts]
        events = list(islice(merge(*found, key=_ID, reverse=after is None), limit))
        if after is None:
            events.reverse()
        return EventPage(
            tuple(events),
            stream,
            last_id,
            missed,
            next_after=events[-1].id if after is not None and events and len(events) >= limit else last_id,
            complete_since=complete_since,
            operator_complete_since=operator_complete_since,
        )

    def _add(self, events: Iterable[Event]) -> None:
        for event in events:
            of_operator = event.change.cause.actor.kind is ActorKind.OPERATOR
            (self._of_operators if of_operator else self._others).events.append(event)

    def _surplus(self) -> list[Event]:
        """Those beyond the limit, in order of id: again and again the oldest of the model that has most of them, but
        none of the recent ones.
        """
        events = self._others.events
        older = events[: len(events) - self._recent_events]
        of_model: Counter[str] = Counter()
        places: list[int] = []  # of each event, the newest first: how many newer ones its model has, and itself
        for event in reversed(older):
            of_model[event.change.key.model_name] += 1
            places.append(of_model[event.change.key.model_name])
        excess = len(events) - self._max_events
        at_place, lowest = Counter(places), max(places)
        while at_place[lowest] < excess:
            excess -= at_place[lowest]
            lowest -= 1
        surplus: list[Event] = []
        for event, place in zip(older, reversed(places), strict=True):
            if place > lowest or (place == lowest and excess > 0):
                excess -= place == lowest
                surplus.append(event)
        return surplus


class _Kept:
    """Events in order of id with a limit on their age, and what is known of those that are forgotten."""

    def __init__(self, max_age: timedelta) -> None:
        self.events: list[Event] = []
        self.lost_to = 0
        """The highest id that is forgotten."""
        self.complete_since: datetime | None = None
        self._max_age = max_age

    def after(self, number: int) -> list[Event]:
        return self.events[bisect_right(self.events, number, key=_ID) :]

    def forget_old(self, now: datetime) -> None:
        before = now - self._max_age
        old = 0
        while old < len(self.events) and self.events[old].change.time < before:
            old += 1
        if old:
            self.forget(self.events[:old])

    def forget(self, gone: Sequence[Event]) -> None:
        """Some of the events, in order of id."""
        ids = set(map(_ID, gone))
        self.events = [event for event in self.events if event.id not in ids]
        self.lost_to = max(self.lost_to, gone[-1].id)
        times = (event.change.time for event in gone)
        self.complete_since = max(*times, self.complete_since or gone[0].change.time)


async def _first_matching(events: Sequence[Event], where: EventFilter, limit: int) -> list[Event]:
    found: list[Event] = []
    for begin in range(0, len(events), EXAMINED_PER_TURN):
        if begin:
            await asyncio.sleep(0)
        turn = events[begin : begin + EXAMINED_PER_TURN]
        found += islice((event for event in turn if where.matches(event.change)), limit - len(found))
        if len(found) >= limit:
            break
    return found
