"""Who may have expired, without looking at all: a heap of times, set right only when they come."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey


class Deadlines:
    """A time per key at which to look at it. A beat leaves it as it is, since that only makes it later: whoever is
    looked at too early is put back. So a registry looks at each instance about once in a timeout.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, InstanceKey]] = []
        self._at: dict[InstanceKey, datetime] = {}

    def note(self, key: InstanceKey, at: datetime) -> None:
        """Looks at the key at that time at the latest."""
        noted = self._at.get(key)
        if noted is None or at < noted:
            self._at[key] = at
            heappush(self._heap, (at, key))

    def replace(self, deadlines: Iterable[tuple[InstanceKey, datetime]]) -> None:
        """Forgets all and takes these."""
        self._at = dict(deadlines)
        self._heap = [(at, key) for key, at in self._at.items()]
        heapify(self._heap)

    def due(self, now: datetime) -> Iterator[tuple[InstanceKey, datetime]]:
        """Takes out those whose time has come, in order of time; those that are noted meanwhile too."""
        while self._heap and self._heap[0][0] <= now:
            at, key = heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                yield key, at
