"""Min-heap of deadlines, corrected lazily: a deadline that has moved is corrected when it is due."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey


class ExpiryQueue:
    """One deadline per key: the time at which to check whether that instance has expired, or its drain is over.

    A heartbeat makes the real deadline later and leaves the queue as it is, so that it costs nothing here. An instance
    that is checked too early is scheduled again: the registry checks each instance about once per heartbeat timeout.
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
