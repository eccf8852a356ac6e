"""The requests that enforce mode refuses, and that log mode serves all the same: who sends them, how often, since when.

To count one is plain dictionary work on raw values. Texts are cut, masked and escaped when the table is read or logged.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from dbgpt_ctl.auth.tokens import Reason
    from dbgpt_ctl.controller.auth.refusal_log import RefusalLog, RefusedRequest
    from dbgpt_ctl.domain.instance import InstanceKey


MAX_ROWS = 1000
MAX_ROWS_OF_SOURCE = 200
"""A source can send each request with another user agent; it may be a proxy with many workers behind it as well."""
QUIET = timedelta(minutes=10)
"""A row that was not seen for so long may leave for a new one. A worker sends a heartbeat every 20 seconds."""
_OF_WORKERS = frozenset({"POST /api/controller/heartbeat", "POST /api/controller/models"})
"""Method and path of a heartbeat and of a register."""


@dataclass(slots=True)
class RefusalTally:
    """How often, and when, since such requests are `served`, as in log mode, or since they are refused."""

    first: datetime
    last: datetime
    served: bool
    count: int = 0

    def add(self, count: int, last: datetime, *, served: bool) -> None:
        """Counts so many more, the last of them at that time. A change of the mode begins the count anew."""
        if served is not self.served:
            if last < self.last:
                return
            self.first, self.served, self.count = last, served, 0
        self.count += count
        self.last = max(self.last, last)


@dataclass(frozen=True, slots=True)
class RefusedWorker:
    """Heartbeats and registers that were refused for one reason, to one source, with one token or none.

    `instance`: None where the request was refused before its body was read. `age`: of the last one.
    """

    reason: Reason
    source: str | None
    token: str | None
    instance: InstanceKey | None
    count: int
    age: timedelta


@dataclass(slots=True, eq=False)
class _Source:
    """The rows of one source; the one that was not seen for the longest time is the first."""

    rows: OrderedDict[RefusedRequest, RefusalTally] = field(default_factory=OrderedDict)


class RefusalTable:
    """A table of at most MAX_ROWS rows; what has no row is counted in `other`, by reason.

    A stranger cannot push out the rows that an operator needs. A source has at most MAX_ROWS_OF_SOURCE rows, where all
    IPv6 addresses of a /64 are one source, because a single host may use all of them. If the table is full, a new row
    replaces one that is QUIET, or one of the source with the most rows if the new row's source has fewer.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        log: RefusalLog,
        *,
        max_rows: int = MAX_ROWS,
        max_rows_of_source: int = MAX_ROWS_OF_SOURCE,
    ) -> None:
        self._now = now
        self._log = log
        self._max_rows = max_rows
        self._max_rows_of_source = max_rows_of_source
        self._sources: OrderedDict[str | None, _Source] = OrderedDict()
        """The one that was not seen for the longest time is the first."""
        self._rows = 0
        self._most_of_source = 0
        """At least so many as the source with the most rows has: it spares a look at all sources."""
        self.since = now()
        self.other: dict[Reason, RefusalTally] = {}
        self.totals: Counter[tuple[Reason, bool]] = Counter()
        """Since the start, by reason and whether the request was served."""

    def count(self, refused: RefusedRequest, *, served: bool, log: RefusalLog | None = None) -> None:
        """Counts one request, and logs it as far as the limit of `log` allows, which is the usual one if absent."""
        now = self._now()
        self.totals[refused.reason, served] += 1
        self._tally(refused, now, served=served).add(1, now, served=served)
        if refused.reason.is_refusal:
            (log or self._log).note(refused, now, served=served)

    def rows(self) -> Iterator[tuple[RefusedRequest, RefusalTally]]:
        """All rows, in no order."""
        for source in self._sources.values():
            yield from source.rows.items()

    def workers(self) -> Iterator[RefusedWorker]:
        """The workers that were refused within QUIET, in no order: at most one for each row of the table."""
        now = self._now()
        found: dict[tuple[Reason, str | None, str | None, InstanceKey | None], RefusalTally] = {}
        for request, tally in self.rows():
            if not tally.served and request.action in _OF_WORKERS and now - tally.last < QUIET:
                caller = request.reason, request.source, request.token, request.instance
                total = found.setdefault(caller, RefusalTally(tally.first, tally.last, served=False))
                total.add(tally.count, tally.last, served=False)
        return (RefusedWorker(*caller, total.count, now - total.last) for caller, total in found.items())

    def _tally(self, refused: RefusedRequest, now: datetime, *, served: bool) -> RefusalTally:
        name = network_of(refused.source)
        source = self._sources.get(name)
        if source is not None:
            self._sources.move_to_end(name)
            tally = source.rows.get(refused)
            if tally is not None:
                source.rows.move_to_end(refused)
                return tally
        if not self._has_room(source, now):
            return self.other.setdefault(refused.reason, RefusalTally(now, now, served))
        source = self._sources.setdefault(name, _Source())
        tally = source.rows[refused] = RefusalTally(now, now, served)
        self._rows += 1
        self._most_of_source = max(self._most_of_source, len(source.rows))
        return tally

    def _has_room(self, source: _Source | None, now: datetime) -> bool:
        """Whether the source may have one more row, for which another row has left if need be."""
        number = 0 if source is None else len(source.rows)
        if source is not None and number >= self._max_rows_of_source:
            return self._forget_quiet(source, now)
        if self._rows < self._max_rows:
            return True
        if self._forget_quiet(next(iter(self._sources.values())), now):
            return True
        if self._most_of_source <= number + 1:
            return False
        largest = max(self._sources.values(), key=lambda each: len(each.rows))
        self._most_of_source = len(largest.rows)
        if self._most_of_source <= number + 1:
            return False
        self._forget(largest)
        return True

    def _forget_quiet(self, source: _Source, now: datetime) -> bool:
        """Whether the source's oldest row was quiet for long and has left."""
        oldest = next(iter(source.rows.values()))
        if now - oldest.last < QUIET:
            return False
        self._forget(source)
        return True

    def _forget(self, source: _Source) -> None:
        """The source's oldest row is counted in `other` from now on. A source keeps its place until it has no row."""
        refused, tally = source.rows.popitem(last=False)
        self._rows -= 1
        other = self.other.setdefault(refused.reason, RefusalTally(tally.first, tally.last, tally.served))
        other.first = min(other.first, tally.first)
        other.add(tally.count, tally.last, served=tally.served)
        if not source.rows:
            del self._sources[network_of(refused.source)]


@lru_cache(maxsize=MAX_ROWS)
def network_of(address: str | None) -> str | None:
    """The address, or the /64 network of an IPv6 address: what one host may use all of."""
    if address is None or ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
