"""The registry in memory: what `ctl serve` uses unless told otherwise. It lives as long as its process."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import RegistryFull, RegistryUnavailable
from dbgpt_ctl.instance import (
    InstanceKey,
    InstanceState,
    ListedInstance,
    ModelInstance,
    Registration,
    is_forgotten,
    state_of,
)
from dbgpt_ctl.registry import Listing, ModelRegistry, RegistryHealth

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.clock import Clock


class EmbeddedModelRegistry(ModelRegistry):
    """Facts in dictionaries, one shelf per model. A beat costs the same at 100 and at 100,000 instances.

    Calls never wait, so each is atomic in its event loop. Listings are kept until a fact changes or a beat gets old.
    `max_instances` bounds all that is held, tombstones included.
    """

    def __init__(self, *, clock: Clock, heartbeat_timeout: timedelta, max_instances: int = 200_000) -> None:
        self._clock = clock
        self._timeout = heartbeat_timeout
        self._max_instances = max_instances
        self._shelves: dict[str, _Shelf] = {}
        self._size = 0
        self._all: dict[bool, _Kept] = {}
        self._tombstones: dict[InstanceKey, None] = {}
        self._closed = False

    async def open(self) -> None:
        self._closed = False

    async def close(self) -> None:
        self._closed = True

    def health(self) -> RegistryHealth:
        return RegistryHealth(ready=not self._closed, reason="the registry is closed" if self._closed else None)

    async def register(self, sent: Registration) -> None:
        now = self._now()
        stored = self._find(sent.key, now)
        self._put(
            ModelInstance.first(sent, now) if stored is None else stored.registered(sent, now), known=stored is not None
        )

    async def heartbeat(self, sent: Registration) -> bool:
        now = self._now()
        stored = self._find(sent.key, now)
        beaten = ModelInstance.first(sent, now) if stored is None else stored.beaten(now)
        self._put(beaten, known=stored is not None)
        return beaten.deregistered_at is None

    async def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        now = self._now()
        stored = self._find(key, now)
        if stored is None:
            return False
        self._put(stored.deregistered(now, remove=remove), known=True)
        return True

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> Listing:
        now = self._now()
        if model_name is not None:
            shelf = self._shelves.get(model_name)
            return shelf.listing(now, self._timeout, healthy_only=healthy_only).listing if shelf else Listing(())
        kept = self._all.get(healthy_only)
        if kept is None or not kept.holds(now):
            parts = [
                self._shelves[name].listing(now, self._timeout, healthy_only=healthy_only)
                for name in sorted(self._shelves)
            ]
            entries = tuple(entry for part in parts for entry in part.listing.entries)
            kept = self._all[healthy_only] = _Kept(
                Listing(entries), now, min((part.until for part in parts if part.until), default=None)
            )
        return kept.listing

    def _now(self) -> datetime:
        if self._closed:
            raise RegistryUnavailable("the registry is closed")
        return self._clock.now()

    def _find(self, key: InstanceKey, now: datetime) -> ModelInstance | None:
        shelf = self._shelves.get(key.model_name)
        stored = shelf.instances.get(key) if shelf else None
        if stored is not None and is_forgotten(stored, now, self._timeout):
            self._forget(key)
            return None
        return stored

    def _put(self, instance: ModelInstance, *, known: bool) -> None:
        key = instance.key
        if not known:
            self._make_room(instance)
            self._size += 1
        shelf = self._shelves.get(key.model_name)
        if shelf is None:
            shelf = self._shelves[key.model_name] = _Shelf()
        shelf.put(instance)
        self._all.clear()
        self._tombstones.pop(key, None)
        if instance.removed:
            self._tombstones[key] = None  # at the end: the first is the first to be forgotten

    def _make_room(self, newcomer: ModelInstance) -> None:
        """Lets go of tombstones that have done their duty, but only when their room is needed."""
        if self._size < self._max_instances:
            return
        while self._tombstones and self._find(next(iter(self._tombstones)), newcomer.registered_at) is None:
            pass
        if self._size >= self._max_instances:
            raise RegistryFull(
                f"{newcomer.key} refused: it would be one more than the {self._size} that --max-instances allows; "
                "deregister some with --remove or raise it"
            )

    def _forget(self, key: InstanceKey) -> None:
        shelf = self._shelves[key.model_name]
        shelf.remove(key)
        if not shelf.instances:
            del self._shelves[key.model_name]
        del self._tombstones[key]
        self._size -= 1


@dataclass(slots=True)
class _Kept:
    """A listing and how long it is true: from `since` to `until`, when its first beat gets old (None: never)."""

    listing: Listing
    since: datetime
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        return self.since <= now and (self.until is None or now <= self.until)


@dataclass(slots=True)
class _Shelf:
    """The instances of one model."""

    instances: dict[InstanceKey, ModelInstance] = field(default_factory=dict)
    order: list[InstanceKey] = field(default_factory=list)
    kept: dict[bool, _Kept] = field(default_factory=dict)

    def put(self, instance: ModelInstance) -> None:
        if instance.key not in self.instances:
            insort(self.order, instance.key)
        self.instances[instance.key] = instance
        self.kept.clear()

    def remove(self, key: InstanceKey) -> None:
        del self.instances[key]
        self.order.remove(key)
        self.kept.clear()

    def listing(self, now: datetime, timeout: timedelta, *, healthy_only: bool) -> _Kept:
        kept = self.kept.get(healthy_only)
        if kept is None or not kept.holds(now):
            kept = self.kept[healthy_only] = self._list(now, timeout, healthy_only=healthy_only)
        return kept

    def _list(self, now: datetime, timeout: timedelta, *, healthy_only: bool) -> _Kept:
        facts = (self.instances[key] for key in self.order)
        entries = [ListedInstance(each, state_of(each, now, timeout)) for each in facts if not each.removed]
        until = min(
            (each.instance.last_heartbeat + timeout for each in entries if each.beats and each.instance.check_healthy),
            default=None,
        )
        if healthy_only:
            entries = [each for each in entries if each.state is InstanceState.HEALTHY]
        return _Kept(Listing(tuple(entries)), now, until)
