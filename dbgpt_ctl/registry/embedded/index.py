"""What the embedded registry keeps: a shelf per model, and the listings made of them. No rules of its own."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceState, ListedInstance
from dbgpt_ctl.domain.lifecycle import state_of
from dbgpt_ctl.registry.contract import Listing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Hold


@dataclass(frozen=True, slots=True)
class Kept:
    """A listing and how long it is true: from `since` to `until`, when its first beat gets old (None: never).

    `held` counts those that are listed as alive only because of `hold` (rule 8).
    """

    listing: Listing
    since: datetime
    until: datetime | None
    hold: Hold | None
    held: int

    def serves(self, now: datetime, hold: Hold | None) -> bool:
        """Whether it is still true at `now`; a clock that was set back makes it untrue too."""
        return self.since <= now and (self.until is None or now <= self.until) and self.hold == hold


@dataclass(slots=True)
class Shelf:
    """The instances of one model, tombstones among them. Listings are kept until a fact changes or a beat gets old."""

    instances: dict[InstanceKey, ModelInstance] = field(default_factory=dict)
    _order: list[InstanceKey] = field(default_factory=list)
    _kept: dict[bool, Kept] = field(default_factory=dict)

    def put(self, instance: ModelInstance) -> None:
        """Adds the instance or replaces its facts."""
        if instance.key not in self.instances:
            insort(self._order, instance.key)
        self.instances[instance.key] = instance
        self._kept.clear()

    def replace(self, instance: ModelInstance) -> None:
        """Replaces the facts of one that is there."""
        self.instances[instance.key] = instance
        self._kept.clear()

    def remove(self, key: InstanceKey) -> None:
        """Forgets the instance."""
        del self.instances[key]
        self._order.remove(key)
        self._kept.clear()

    def listing(self, now: datetime, timeout: timedelta, hold: Hold | None, *, healthy_only: bool) -> Kept:
        """In order of identity."""
        kept = self._kept.get(healthy_only)
        if kept is None or not kept.serves(now, hold):
            kept = self._kept[healthy_only] = self._list(now, timeout, hold, healthy_only=healthy_only)
        return kept

    def _list(self, now: datetime, timeout: timedelta, hold: Hold | None, *, healthy_only: bool) -> Kept:
        facts = [self.instances[key] for key in self._order]
        entries = [ListedInstance(each, state_of(each, now, timeout, hold)) for each in facts if not each.removed]
        ends = [
            each.instance.last_heartbeat + timeout for each in entries if each.beats and each.instance.check_healthy
        ]
        to_come = [end for end in ends if end >= now]
        if healthy_only:
            entries = [each for each in entries if each.state is InstanceState.HEALTHY]
        held_until = hold.until if hold and len(to_come) < len(ends) else None
        listing = Listing(tuple(entries), held_until=held_until)
        return Kept(listing, now, min(to_come, default=None), hold, len(ends) - len(to_come))


class Shelves:
    """All shelves. A beat costs the same whatever is on them. Its length counts tombstones too."""

    def __init__(self) -> None:
        self._shelves: dict[str, Shelf] = {}
        self._size = 0
        self._all: dict[bool, Kept] = {}
        self._tombstones: dict[InstanceKey, datetime] = {}
        self._by_age: list[tuple[datetime, InstanceKey]] = []

    def __len__(self) -> int:
        return self._size

    def instances(self) -> Iterator[ModelInstance]:
        """All, tombstones among them, in no order."""
        return (each for shelf in self._shelves.values() for each in shelf.instances.values())

    def get(self, key: InstanceKey) -> ModelInstance | None:
        """The facts of one."""
        shelf = self._shelves.get(key.model_name)
        return shelf.instances.get(key) if shelf else None

    def put(self, instance: ModelInstance) -> None:
        """Adds the instance or replaces its facts."""
        key = instance.key
        shelf = self._shelves.get(key.model_name)
        if shelf is None:
            shelf = self._shelves[key.model_name] = Shelf()
        self._size += key not in shelf.instances
        shelf.put(instance)
        self._all.clear()
        self._unbury(key)
        if instance.removed and instance.deregistered_at is not None:
            since = max(instance.deregistered_at, instance.refused_at or instance.deregistered_at)
            self._tombstones[key] = since
            insort(self._by_age, (since, key))

    def replace(self, instance: ModelInstance) -> None:
        """Replaces the facts of one that is there and is no tombstone, before or after."""
        self._shelves[instance.key.model_name].replace(instance)
        self._all.clear()

    def forget(self, key: InstanceKey) -> None:
        """Takes out what is there."""
        shelf = self._shelves[key.model_name]
        shelf.remove(key)
        if not shelf.instances:
            del self._shelves[key.model_name]
        self._all.clear()
        self._unbury(key)
        self._size -= 1

    def oldest_tombstone(self) -> InstanceKey | None:
        """The one that will be forgotten first."""
        return self._by_age[0][1] if self._by_age else None

    def list(
        self, model_name: str | None, now: datetime, timeout: timedelta, hold: Hold | None, *, healthy_only: bool
    ) -> Kept:
        """Of one model, or of all in order of identity."""
        if model_name is not None:
            shelf = self._shelves.get(model_name) or Shelf()
            return shelf.listing(now, timeout, hold, healthy_only=healthy_only)
        kept = self._all.get(healthy_only)
        if kept is None or not kept.serves(now, hold):
            shelves = [self._shelves[name] for name in sorted(self._shelves)]
            parts = [shelf.listing(now, timeout, hold, healthy_only=healthy_only) for shelf in shelves]
            entries = tuple(entry for part in parts for entry in part.listing.entries)
            held = sum(part.held for part in parts)
            listing = Listing(entries, held_until=hold.until if hold and held else None)
            until = min((part.until for part in parts if part.until), default=None)
            kept = self._all[healthy_only] = Kept(listing, now, until, hold, held)
        return kept

    def _unbury(self, key: InstanceKey) -> None:
        since = self._tombstones.pop(key, None)
        if since is not None:
            del self._by_age[bisect_left(self._by_age, (since, key))]
