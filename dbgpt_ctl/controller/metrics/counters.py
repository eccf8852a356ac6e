"""What a controller counts while it works: plain integers, which cost a request less than a microsecond. Nothing here
knows Prometheus.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from heapq import nsmallest
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.controller.metrics.declarations import (
    BATCH_SIZE,
    COMMIT_DURATION,
    MAX_MODEL_NAMES,
    OTHER,
    REQUEST_DURATION,
)
from dbgpt_ctl.registry.contract import RegistryObserver

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.types import Message, Send

    from dbgpt_ctl.controller.metrics.declarations import Metric
    from dbgpt_ctl.domain.events import Change


class ModelNames:
    """At most `limit` names have a place; all others are OTHER.

    A model keeps its place as long as it is in the lists: names that a stranger registers later cannot push it out of
    the metrics. Of the models that come at the same time, those with more instances go first.
    """

    def __init__(self, limit: int = MAX_MODEL_NAMES) -> None:
        self._limit = limit
        self._placed: set[str] = set()

    @property
    def placed(self) -> frozenset[str]:
        """The names that have a place."""
        return frozenset(self._placed)

    def label_of(self, name: str) -> str:
        """The name, if it has a place or gets a free one; else OTHER."""
        if name in self._placed:
            return name
        if len(self._placed) >= self._limit:
            return OTHER
        self._placed.add(name)
        return name

    def keep(self, listed: Mapping[str, int]) -> set[str]:
        """Gives places to the models in the lists, by their number of instances. If there are not enough, models in no
        list lose theirs: these are returned.
        """
        without = listed.keys() - self._placed
        lost: set[str] = set()
        if len(self._placed) + len(without) > self._limit:
            lost = self._placed - listed.keys()
            self._placed -= lost
        free = self._limit - len(self._placed)
        self._placed.update(nsmallest(free, without, key=lambda name: (-listed[name], name)))
        return lost


class Distribution(NamedTuple):
    """What a histogram has counted: how many values up to each bound and above the one before it, the last one above
    all bounds, and the sum of all values.
    """

    counts: tuple[int, ...]
    total: float


Labels = tuple[str, ...]
"""The values of a metric's labels, in their order."""


class Reading(NamedTuple):
    """A metric with its values. They may be made while they are iterated, from numbers that do not change any more."""

    metric: Metric
    values: Iterable[tuple[Labels, float | Distribution]]


class Histogram:
    """Counts values by upper bound."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Distribution:
        """What was counted until now."""
        return Distribution(tuple(self._counts), self._total)


class OperationCounts:
    """The answers to the requests of one operation."""

    __slots__ = ("durations", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.durations = Histogram(REQUEST_DURATION.buckets)

    def answered(self, status: int, seconds: float) -> None:
        """Counts one answer, which begins to be sent so many seconds after the head of its request came."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.durations.add(seconds)

    def counting(self, send: Send, began: float) -> Send:
        """`send` of an ASGI server, that also counts the answer when it begins. `began`: a time of `perf_counter`."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered(message["status"], perf_counter() - began)
            await send(message)

        return sending


class Transition(NamedTuple):
    """The labels of one series of `transitions_total`."""

    model_name: str
    to: str
    cause: str


@dataclass(frozen=True)
class StorageCounts:
    """What the registry has reported until now."""

    transitions: Mapping[Transition, int]
    errors: Mapping[str, int]
    commits: Distribution
    batches: Distribution


class StorageCounters(RegistryObserver):
    """Counts what a registry tells of its work. Each method is atomic: the threads of a database call them."""

    def __init__(self, names: ModelNames) -> None:
        self._names = names
        self._lock = Lock()
        self._transitions: Counter[Transition] = Counter()
        self._errors: Counter[str] = Counter()
        self._commits = Histogram(COMMIT_DURATION.buckets)
        self._batches = Histogram(BATCH_SIZE.buckets)

    def changes_written(self, changes: Sequence[Change]) -> None:
        with self._lock:
            for change in changes:
                label = self._names.label_of(change.key.model_name)
                self._transitions[Transition(label, _destination(change), change.cause.verb)] += 1

    def committed(self, calls: int, seconds: float) -> None:
        with self._lock:
            self._commits.add(seconds)
            self._batches.add(calls)

    def failed(self, kind: str) -> None:
        with self._lock:
            self._errors[kind] += 1

    def keep_names(self, listed: Mapping[str, int]) -> frozenset[str]:
        """Tells how many instances each model has that is in the lists. Returns the names with series of their own.

        Models in no list may lose their places, and their transitions then.
        """
        with self._lock:
            lost = self._names.keep(listed)
            if lost:
                self._transitions = Counter(
                    {each: count for each, count in self._transitions.items() if each.model_name not in lost}
                )
            return self._names.placed

    def read(self) -> StorageCounts:
        """What was counted until now."""
        with self._lock:
            return StorageCounts(
                dict(self._transitions), dict(self._errors), self._commits.read(), self._batches.read()
            )


def _destination(change: Change) -> str:
    """The new state; where only the drain changed, what it is now."""
    if change.old != change.new:
        return str(change.new)
    return "drained" if change.drained else "undrained"


class Counters:
    """All that one controller counts. `requests` and `heartbeats_refused` belong to the event loop, `storage` to any
    thread.
    """

    def __init__(self) -> None:
        self.requests: dict[str, OperationCounts] = {}
        """By operation."""
        self.heartbeats_refused = 0
        self.storage = StorageCounters(ModelNames())

    def of_operation(self, operation: str) -> OperationCounts:
        """The counts of that operation, where each answer is to be counted."""
        return self.requests.setdefault(operation, OperationCounts())
