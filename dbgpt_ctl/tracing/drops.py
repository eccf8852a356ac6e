"""`DropCounter`: how many spans were lost, and a line in the log about it once in a while."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

REPORT_EVERY_SECS = 60.0


class DropCounter:
    """Counts from any thread. Logs the first time at once, then at most once per REPORT_EVERY_SECS, how many spans were
    lost since the last line. `place` and `reason` are the begin and the end of the line.
    """

    def __init__(self, place: str, reason: str, *, monotonic: Callable[[], float]) -> None:
        self.total = 0
        self._place = place
        self._reason = reason
        self._monotonic = monotonic
        self._reported = 0
        self._report_from = -REPORT_EVERY_SECS
        self._lock = Lock()

    def add(self, count: int) -> None:
        """Counts `count` spans."""
        with self._lock:
            self.total += count
            now = self._monotonic()
            if now < self._report_from:
                return
            self._report_from = now + REPORT_EVERY_SECS
            since, self._reported = self.total - self._reported, self.total
        log.warning("%s: %d spans dropped: %s", self._place, since, self._reason)
