"""The event log of the embedded registry: the newest events, numbered without a gap."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import Event, EventPage
from dbgpt_ctl.registry.contract import MAX_EVENT_AGE_DAYS, MAX_EVENTS
from dbgpt_ctl.registry.observer import NO_OBSERVER

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dbgpt_ctl.domain.events import Change, EventQuery
    from dbgpt_ctl.registry.observer import RegistryObserver

MAX_AGE = timedelta(days=MAX_EVENT_AGE_DAYS)


def random_stream() -> str:
    """A name that no other stream of events has."""
    return secrets.token_hex(8)


class EventLog:
    """The events in a list by id, so that the cost of an answer depends on its size only. `observer` gets the changes
    that are stored, not those that another log held.
    """

    def __init__(
        self,
        stream: str,
        *,
        max_events: int = MAX_EVENTS,
        max_age: timedelta = MAX_AGE,
        observer: RegistryObserver = NO_OBSERVER,
    ) -> None:
        self.stream = stream
        self.last_id = 0
        self._max_events = max_events
        self._max_age = max_age
        self._observer = observer
        self._events: list[Event] = []

    @property
    def events(self) -> tuple[Event, ...]:
        """All stored events, in order of id."""
        return tuple(self._events)

    def restore(self, stream: str, last_id: int, events: Sequence[Event]) -> None:
        """Continues another log."""
        self.stream, self.last_id, self._events = stream, last_id, list(events)

    def extend(self, changes: Sequence[Change]) -> None:
        """Numbers and stores the changes, in this order."""
        for change in changes:
            self.last_id += 1
            self._events.append(Event(self.last_id, change))
        if len(self._events) > self._max_events:
            del self._events[: -self._max_events]
        if changes:
            self._observer.changes_written(changes)

    def forget_old(self, now: datetime) -> None:
        """Removes events that are too old; costs nothing when the oldest is young enough."""
        before = now - self._max_age
        old = 0
        while old < len(self._events) and self._events[old].change.time < before:
            old += 1
        del self._events[:old]

    def page(self, query: EventQuery) -> EventPage:
        """As `ModelRegistry.events`."""
        after, since, key, limit = query
        forgotten = self.last_id - len(self._events)
        beyond = 0 if after is None else max(after - forgotten, 0)
        if since is None and key is None:
            start = beyond if after is not None else max(len(self._events) - limit, 0)
            found = self._events[start : start + limit]
        else:
            matching = [
                event
                for event in self._events[beyond:]
                if (since is None or event.change.time >= since) and (key is None or event.change.key == key)
            ]
            found = matching[:limit] if after is not None else matching[max(len(matching) - limit, 0) :]
        missed = after is not None and not forgotten <= after <= self.last_id
        return EventPage(tuple(found), self.stream, self.last_id, missed)
