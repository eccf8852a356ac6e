"""The instances of the embedded registry, by model and by the time of their expiry, with cached listings. It applies no
rules of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heapify, heappop, heappush
from operator import itemgetter
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import HEALTHY
from dbgpt_ctl.domain.lifecycle import listed, tombstone_since
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.model_counts import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.model_counts import CountsByModel


SLACK = 1000
"""The heap may hold so many entries that do not count any more, and as many again as entries that do."""


class ExpiryQueue:
    """One deadline per key: the time at which to check whether that instance has expired, or its drain is over, or
    whether that tombstone is still needed.

    Each change costs the logarithm of the number of keys, whichever key it is. A heartbeat makes the real deadline
    later and leaves the queue as it is, so that it costs nothing here. An instance that is checked too early is
    scheduled again: the registry checks each instance about once per heartbeat timeout.
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
            if len(self._heap) > 2 * len(self._deadlines) + SLACK:
                self.reset(self._deadlines.items())

    def discard(self, key: InstanceKey) -> None:
        """Forgets the key. Its entry stays in the heap until it is due, or until too many such entries are there."""
        self._deadlines.pop(key, None)

    def first(self) -> InstanceKey | None:
        """The key with the earliest deadline, which stays."""
        while self._heap:
            at, key = self._heap[0]
            if self._deadlines.get(key) == at:
                return key
            heappop(self._heap)
        return None

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


_JUST_BEFORE = timedelta.resolution
"""A heartbeat is fresh up to and with the end of its time; a drain is over at its end."""


@dataclass(frozen=True, slots=True)
class CachedListing:
    """A listing under `hold` and the time in which it is true: from `since` to `until`, the last time before its first
    heartbeat gets too old or its first drain is over (None: for ever).
    """

    listing: Listing
    since: datetime
    until: datetime | None
    hold: Hold | None

    def is_valid(self, now: datetime, hold: Hold | None) -> bool:
        """Whether it is still true at `now`. A clock that was set back invalidates it too."""
        return self.since <= now and (self.until is None or now <= self.until) and self.hold == hold


@dataclass(slots=True)
class _Model:
    """The instances of one model, with its tombstones. A listing is cached until a fact changes or its time is over.

    The dictionary is put in order of identity when the order is asked for and new keys have come. So each change costs
    the same for any number of instances, and a removal leaves the order as it is. A sorted list would move half of its
    entries at each change.
    """

    instances: dict[InstanceKey, ModelInstance] = field(default_factory=dict)
    groups: Counter[Group] = field(default_factory=Counter)
    """How many instances of each kind there are, by their announced states and without tombstones."""
    drains: dict[InstanceKey, datetime] = field(default_factory=dict)
    """When the drains began whose begin is known."""
    _is_in_order: bool = True
    _cache: dict[bool, CachedListing] = field(default_factory=dict)

    def put(self, instance: ModelInstance) -> None:
        """Adds the instance or replaces its facts."""
        before = self.instances.get(instance.key)
        if before is None:
            self._is_in_order = False
        else:
            self._uncount(before)
        if not instance.removed:
            self.groups[_group_of(instance)] += 1
            if instance.drain is not None and instance.drain.since is not None:
                self.drains[instance.key] = instance.drain.since
        self.replace(instance)

    def replace(self, instance: ModelInstance) -> None:
        """Replaces the facts of an instance that is in the index, and stays in its group."""
        self.instances[instance.key] = instance
        self._cache.clear()

    def remove(self, key: InstanceKey) -> None:
        self._uncount(self.instances.pop(key))
        self._cache.clear()

    def _uncount(self, instance: ModelInstance) -> None:
        if not instance.removed:
            self.groups[_group_of(instance)] -= 1
            self.drains.pop(instance.key, None)

    def in_order(self) -> dict[InstanceKey, ModelInstance]:
        """The instances in order of identity."""
        if not self._is_in_order:  # the sort takes few steps: all but the new ones are in order already
            self.instances = dict(sorted(self.instances.items(), key=itemgetter(0)))
            self._is_in_order = True
        return self.instances

    def list(self, now: datetime, timeout: timedelta, hold: Hold | None, *, healthy_only: bool) -> CachedListing:
        cached = self._cache.get(healthy_only)
        if cached is None or not cached.is_valid(now, hold):
            cached = self._cache[healthy_only] = self._list(now, timeout, hold, healthy_only=healthy_only)
        return cached

    def _list(self, now: datetime, timeout: timedelta, hold: Hold | None, *, healthy_only: bool) -> CachedListing:
        stored = self.in_order().values()
        entries = [listed(instance, now, timeout, hold) for instance in stored if not instance.removed]
        ends = []
        for instance, state, drain, held in entries:
            if state is HEALTHY and instance.check_healthy and not held:
                ends.append(instance.last_heartbeat + timeout)
            if drain is not None and drain.until is not None:
                ends.append(drain.until - _JUST_BEFORE)
        is_held = hold is not None and any(entry.held for entry in entries)
        if healthy_only:
            entries = [entry for entry in entries if entry.state is HEALTHY and entry.drain is None]
        listing = Listing(tuple(entries), held_until=hold.until if hold and is_held else None)
        return CachedListing(listing, now, min(ends, default=None), hold)


def _group_of(instance: ModelInstance) -> Group:
    return Group(instance.announced_state, instance.drain is not None, instance.check_healthy)


class ModelIndex:
    """All instances by model. To replace the facts of one costs the same for any number of instances.

    Its length counts tombstones too.
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._size = 0
        self._cache: dict[bool, CachedListing] = {}
        self._tombstones = ExpiryQueue()
        """When each became one, or refused a heartbeat last."""

    def __len__(self) -> int:
        return self._size

    def instances(self) -> Iterator[ModelInstance]:
        """All instances and tombstones, in no order."""
        return (instance for model in self._models.values() for instance in model.instances.values())

    def keys(self) -> list[InstanceKey]:
        """The identities of all instances and tombstones, in order."""
        return [key for name in sorted(self._models) for key in self._models[name].in_order()]

    def model_names(self) -> list[str]:
        """The models that have instances or tombstones, in no order."""
        return list(self._models)

    def add_counts(self, model_name: str, counts: CountsByModel) -> None:
        """Counts the instances of a model by their announced states. The cost depends on the number of drains only."""
        model = self._models.get(model_name)
        if model is None:
            return
        oldest_drain = min(model.drains.values(), default=None)
        for group, number in model.groups.items():
            if number:
                counts.add(model_name, group, number, oldest_drain=oldest_drain)

    def get(self, key: InstanceKey) -> ModelInstance | None:
        """The facts of one instance or tombstone."""
        model = self._models.get(key.model_name)
        return model.instances.get(key) if model else None

    def put(self, instance: ModelInstance) -> None:
        """Adds the instance or replaces its facts."""
        key = instance.key
        model = self._models.get(key.model_name)
        if model is None:
            model = self._models[key.model_name] = _Model()
        if (before := model.instances.get(key)) is not None:
            self._forget_tombstone(before)
        self._size += before is None
        model.put(instance)
        self._cache.clear()
        if (since := tombstone_since(instance)) is not None:
            self._tombstones.schedule(key, since)

    def replace(self, instance: ModelInstance) -> None:
        """Replaces the facts of an instance that is in the index after a plain heartbeat: it is no tombstone, and its
        announced state and drain stay.
        """
        self._models[instance.key.model_name].replace(instance)
        self._cache.clear()

    def remove(self, key: InstanceKey) -> None:
        """Removes an instance or tombstone that is in the index."""
        model = self._models[key.model_name]
        self._forget_tombstone(model.instances[key])
        model.remove(key)
        if not model.instances:
            del self._models[key.model_name]
        self._cache.clear()
        self._size -= 1

    def oldest_tombstone(self) -> InstanceKey | None:
        """The tombstone whose time ends first."""
        return self._tombstones.first()

    def list(
        self, model_name: str | None, now: datetime, timeout: timedelta, hold: Hold | None, *, healthy_only: bool
    ) -> CachedListing:
        """The listing of one model, or of all, in order of identity."""
        if model_name is not None:
            model = self._models.get(model_name) or _Model()
            return model.list(now, timeout, hold, healthy_only=healthy_only)
        cached = self._cache.get(healthy_only)
        if cached is None or not cached.is_valid(now, hold):
            models = (self._models[name] for name in sorted(self._models))
            parts = [model.list(now, timeout, hold, healthy_only=healthy_only) for model in models]
            entries = tuple(entry for part in parts for entry in part.listing.entries)
            held_until = next((part.listing.held_until for part in parts if part.listing.held_until), None)
            until = min((part.until for part in parts if part.until), default=None)
            listing = Listing(entries, held_until=held_until)
            cached = self._cache[healthy_only] = CachedListing(listing, now, until, hold)
        return cached

    def _forget_tombstone(self, instance: ModelInstance) -> None:
        if instance.removed:
            self._tombstones.discard(instance.key)
