"""Min-heap of deadlines, corrected lazily: a deadline that has moved is corrected when it is due."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey


SLACK = 1000
"""The heap may hold so many entries that do not count any more, and as many again as entries that do."""


class ExpiryQueue:
    """One deadline per key: the time at which to check whether that instance has expired, or its drain is over, or
    whether that tombstone is still needed.

    Each change costs the logarithm of the number of keys, whichever key it is. A heartbeat makes the real deadline
    later and leaves the queue as it is, so that it costs nothing here. An instance that is checked too early is
    scheduled again: the registry checks each instance about once per heartbeat timeout.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, InstanceKey]] = []
        self._deadlines: dict[InstanceKey, datetime] = {}

    def schedule(self, key: InstanceKey, at: datetime) -> None:
        """Makes the key due at that time, unless it is due earlier."""
        scheduled = self._deadlines.get(key)
        if scheduled is None or at < scheduled:
            self._deadlines[key] = at
            heappush(self._heap, (at, key))
            if len(self._heap) > 2 * len(self._deadlines) + SLACK:
                self.reset(self._deadlines.items())

    def discard(self, key: InstanceKey) -> None:
        """Forgets the key. Its entry stays in the heap until it is due, or until too many such entries are there."""
        self._deadlines.pop(key, None)

    def first(self) -> InstanceKey | None:
        """The key with the earliest deadline, which stays."""
        while self._heap:
            at, key = self._heap[0]
            if self._deadlines.get(key) == at:
                return key
            heappop(self._heap)
        return None

    def reset(self, deadlines: Iterable[tuple[InstanceKey, datetime]]) -> None:
        self._deadlines = dict(deadlines)
        self._heap = [(at, key) for key, at in self._deadlines.items()]
        heapify(self._heap)

    def pop_due(self, now: datetime) -> Iterator[tuple[InstanceKey, datetime]]:
        """Removes and yields the keys that are due, in order of time, with those that are scheduled meanwhile."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            if self._deadlines.get(key) == at:
                del self._deadlines[key]
                yield key, at
