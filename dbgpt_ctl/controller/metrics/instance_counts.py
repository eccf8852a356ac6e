"""The numbers of instances by model, counted beside the requests, so that a scrape waits for no list."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, TypeVar

from dbgpt_ctl.background import background_task
from dbgpt_ctl.controller.metrics.declarations import OTHER, STATES
from dbgpt_ctl.errors import CtlError
from dbgpt_ctl.registry.model_counts import COUNTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from dbgpt_ctl.controller.metrics.counters import StorageCounters
    from dbgpt_ctl.registry.contract import ModelRegistry
    from dbgpt_ctl.registry.model_counts import CountsByModel


log = logging.getLogger(__name__)

T = TypeVar("T")

EVERY_SECS = 5.0
EVERY_SECS_OF_ANOTHER = 15.0
"""Where another controller keeps the registry, each list is a request to that one."""
REST_FACTOR = 20
"""After a count it rests for 20 times as long as that took, so that it takes 5% of the time, up to MAX_REST_SECS."""
MAX_REST_SECS = 30.0
"""Also after a count that took long because the database hung: other controllers have counted again meanwhile."""
MODELS_PER_TURN = 1000
"""A stranger can register very many models: other requests have their turn after this many."""
MAX_DELAY_SECS = 30.0
"""Counts are not shown any more when the next ones are late by this: the registry does not answer."""


@dataclass(frozen=True)
class InstanceCounts:
    """What was counted. `models` has the numbers in the order of COUNTS, `oldest_drain` Unix times, both by label."""

    models: Mapping[str, Sequence[int]]
    oldest_drain: Mapping[str, float]
    names_in_other: int

    @property
    def held(self) -> int:
        """How many instances are held."""
        return sum(row[COUNTS.index("held")] for row in self.models.values())


class InstanceCounter:
    """Counts the instances of `registry()` again and again. `registry` is called each time, because a controller may
    exchange its registry.
    """

    def __init__(
        self,
        registry: Callable[[], ModelRegistry],
        storage: StorageCounters,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._storage = storage
        self._monotonic = monotonic
        self._counts: InstanceCounts | None = None
        self._valid_until = 0.0
        self._failed = False

    @property
    def is_stale(self) -> bool:
        """Whether lists come from memory, because the storage cannot be read. Health knows of most outages before the
        next count; a table that cannot be read while the database answers shows in the count only.
        """
        health = self._registry().health()
        return health.ready and (self._failed or health.stale_since is not None)

    @property
    def current(self) -> InstanceCounts | None:
        """The newest counts. None: there are none yet, they are too old, or the registry can only tell what it knew."""
        is_known = self._registry().health().ready and not self.is_stale
        return self._counts if is_known and self._monotonic() <= self._valid_until else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Counts, as long as the block lasts."""
        async with background_task(self._keep_counting(), "count instances"):
            yield

    async def _keep_counting(self) -> None:
        while True:
            began = self._monotonic()
            try:
                await self.count()
            except CtlError:  # health reports a registry that cannot answer
                self._counts, self._failed = None, True
            except Exception:  # a bug in one count must not end the next ones
                self._counts = None
                log.exception("the instances could not be counted for metrics")
            forwards = self._registry().forwarder_id is not None
            ended = self._monotonic()
            rest = EVERY_SECS_OF_ANOTHER if forwards else EVERY_SECS
            if self._counts is not None:  # to wait in vain for a registry that is away is no work
                rest = max(rest, min(REST_FACTOR * (ended - began), MAX_REST_SECS))
            self._valid_until = ended + rest + MAX_DELAY_SECS
            await asyncio.sleep(rest)

    async def count(self) -> None:
        """Counts once. Raises what the registry raises."""
        self._counts = await self._by_label(await self._registry().count())
        self._failed = False
        self._valid_until = self._monotonic() + MAX_DELAY_SECS

    async def _by_label(self, counts: CountsByModel) -> InstanceCounts:
        """The counts with at most MAX_MODEL_NAMES labels. Other requests have their turn meanwhile."""
        sizes = {name: sum(row[: len(STATES)]) async for name, row in _in_turns(counts.rows())}
        placed = self._storage.keep_names(sizes)
        models: dict[str, list[int]] = {}
        oldest: dict[str, float] = {}
        async for name, row in _in_turns(counts.rows()):
            label = name if name in placed else OTHER
            of_label = models.setdefault(label, [0] * len(COUNTS))
            of_label[:] = map(add, of_label, row)
            if (since := counts.oldest_drain.get(name)) is not None:
                oldest[label] = min(since.timestamp(), oldest.get(label, math.inf))
        return InstanceCounts(models, oldest, sum(name not in placed for name in sizes))


async def _in_turns(rows: Iterable[T]) -> AsyncIterator[T]:
    for number, row in enumerate(rows):
        if number % MODELS_PER_TURN == 0:
            await asyncio.sleep(0)
        yield row
