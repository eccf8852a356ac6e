"""How many instances each model has in which state: for metrics and for /api/v1/status."""

from __future__ import annotations

import asyncio
from array import array
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from dbgpt_ctl.domain.instance import ListedInstance

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
"""The numbers of each model: by state, and beside the states how many are routable, held, drained, and healthy only
because they are not checked.
"""
_COLUMN_OF_STATE = {state: column for column, state in enumerate(InstanceState)}
_NO_COUNTS = (0,) * len(COUNTS)


class Group(NamedTuple):
    """What instances have in common that are counted together."""

    state: InstanceState
    drained: bool
    checked: bool
    """Whether they can expire: their `check_healthy`."""


class CountsByModel:
    """The numbers of each model in the order of COUNTS.

    They are in one array, and in no object for each model: the garbage collector would examine all objects because of
    so many new ones, which takes a second and more with 200,000 models.
    """

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._counts = array("L")
        self.oldest_drain: dict[str, datetime] = {}
        """The earliest begin of a drain, by model. An instance that registered as disabled has no begin."""

    def add(
        self, model_name: str, group: Group, number: int, *, held: int = 0, oldest_drain: datetime | None = None
    ) -> None:
        """Counts `number` instances of a model, of which `held` are held."""
        row = self._rows.setdefault(model_name, len(self._counts))
        if row == len(self._counts):
            self._counts.extend(_NO_COUNTS)
        if oldest_drain is not None:
            self.oldest_drain[model_name] = min(oldest_drain, self.oldest_drain.get(model_name, oldest_drain))
        state, drained, checked = group
        healthy = state is InstanceState.HEALTHY
        numbers = (
            number * (healthy and not drained),
            held,
            number * drained,
            number * (drained and state is InstanceState.UNHEALTHY),
            number * (healthy and not checked),
        )
        self._counts[row + _COLUMN_OF_STATE[state]] += number
        for column, counted in enumerate(numbers, row + len(_COLUMN_OF_STATE)):
            self._counts[column] += counted

    async def add_all(self, entries: Iterable[ListedInstance]) -> None:
        """Counts listed instances. Other requests have their turn meanwhile."""
        left = iter(entries)
        while turn := list(islice(left, COUNTED_PER_TURN)):
            for entry in turn:
                since = None if entry.drain is None else entry.drain.since
                group = Group(entry.state, entry.drain is not None, entry.instance.check_healthy)
                self.add(entry.instance.key.model_name, group, 1, held=entry.held, oldest_drain=since)
            await asyncio.sleep(0)

    def rows(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Each model with its numbers."""
        for name, row in self._rows.items():
            yield name, self._counts[row : row + len(COUNTS)]
