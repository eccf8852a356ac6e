"""How many instances each model has in which state: for /api/v1/status and for metrics."""

from __future__ import annotations

import asyncio
from array import array
from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from dbgpt_ctl.domain.instance import ListedInstance
    from dbgpt_ctl.registry.contract import Listing

COUNTED_PER_TURN = 2000
"""This many instances are counted before other requests have their turn, which takes some milliseconds."""
COUNTS = (
    *(state.value for state in InstanceState),
    "routable",
    "held",
    "drained",
    "unhealthy_drained",
    "unchecked",
)
"""What is counted of each model: the states, and beside them which get requests, which are drained, and which are
healthy for ever.
"""
_COLUMN_OF_STATE = {state: column for column, state in enumerate(InstanceState)}
_NO_COUNTS = (0,) * len(COUNTS)


class ModelCounts:
    """The numbers of each model in the order of COUNTS.

    They are in one array, and in no object for each model: the garbage collector would examine all objects because of
    so many new ones, which takes a second and more with 200,000 models.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._counts = array("L")
        self.oldest_drain: dict[str, datetime] = {}
        """Since when the instance is drained that has been for the longest time, by model; without those that
        registered as disabled.
        """

    def add(self, entry: ListedInstance) -> None:
        """Counts one instance."""
        name = entry.instance.key.model_name
        row = self._rows.setdefault(name, len(self._counts))
        if row == len(self._counts):
            self._counts.extend(_NO_COUNTS)
        self._counts[row + _COLUMN_OF_STATE[entry.state]] += 1
        drained = entry.drain is not None
        if entry.drain is not None and (since := entry.drain.since) is not None:
            self.oldest_drain[name] = min(since, self.oldest_drain.get(name, since))
        facts = (
            entry.routable,
            entry.held,
            drained,
            drained and entry.state is InstanceState.UNHEALTHY,
            entry.state is InstanceState.HEALTHY and not entry.instance.check_healthy,
        )
        for column, holds in enumerate(facts, row + len(_COLUMN_OF_STATE)):
            self._counts[column] += holds

    async def add_all(self, listing: Listing) -> None:
        """Counts the instances of a list. Other requests have their turn meanwhile."""
        entries = iter(listing.entries)
        while turn := list(islice(entries, COUNTED_PER_TURN)):
            for entry in turn:
                self.add(entry)
            await asyncio.sleep(0)

    def rows(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Each model with its numbers."""
        for name, row in self._rows.items():
            yield name, self._counts[row : row + len(COUNTS)]
