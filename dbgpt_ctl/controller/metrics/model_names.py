"""Which models have series of their own."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.metrics.declarations import MAX_MODEL_NAMES, OTHER

if TYPE_CHECKING:
    from collections.abc import Mapping


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
