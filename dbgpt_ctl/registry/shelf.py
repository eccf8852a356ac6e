"""What the embedded registry keeps of one model, and the listings it makes of that."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgpt_ctl.instance import InstanceState, ListedInstance, state_of
from dbgpt_ctl.registry import Listing

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.registry.pulse import Hold


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
        judge = hold.state_of if hold else state_of
        entries = [ListedInstance(each, judge(each, now, timeout)) for each in facts if not each.removed]
        ends = [
            each.instance.last_heartbeat + timeout for each in entries if each.beats and each.instance.check_healthy
        ]
        to_come = [end for end in ends if end >= now]
        if healthy_only:
            entries = [each for each in entries if each.state is InstanceState.HEALTHY]
        held_until = hold.until if hold and len(to_come) < len(ends) else None
        listing = Listing(tuple(entries), held_until=held_until)
        return Kept(listing, now, min(to_come, default=None), hold, len(ends) - len(to_come))
