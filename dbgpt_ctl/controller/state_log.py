"""What the log tells of instances: one line per change of state, none per heartbeat."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from dbgpt_ctl.domain.instance import InstanceKey, ListedInstance
    from dbgpt_ctl.registry.contract import Listing

log = logging.getLogger("dbgpt_ctl.instances")

MAX_REFUSED = 10_000
"""So many removed instances that still beat are remembered; beyond, a warning may be repeated. Bounds the memory a
stranger can take.
"""


class Journal:
    """Remembers which state of each instance was last told, and tells when it is another.

    Registers and deregisters through this controller are told at once; all else (a beat that got too old, a change made
    through another controller) when `observe` sees it.
    """

    def __init__(self) -> None:
        self._told: dict[InstanceKey, InstanceState] = {}
        self._refused: set[InstanceKey] = set()
        self._seen: Listing | None = None

    def registered(self, key: InstanceKey, caller: str) -> None:
        """Tells a register that brought an instance in or back; not one that found it healthy."""
        self._refused.discard(key)
        told = self._told.get(key)
        if told not in (InstanceState.HEALTHY, InstanceState.DRAINED):
            self._told[key] = InstanceState.HEALTHY
            log.info("%s registered by %s", key, caller)

    def deregistered(self, key: InstanceKey, caller: str, *, remove: bool) -> None:
        """Tells a deregister or a removal; a repeated deregister is no news."""
        if self._told.get(key) is not InstanceState.DEREGISTERED or remove:
            log.info("%s %s by %s", key, "removed" if remove else "deregistered", caller)
        if remove:
            self._told.pop(key, None)
        else:
            self._told[key] = InstanceState.DEREGISTERED

    def drained(self, entry: ListedInstance, caller: str, reason: str | None) -> None:
        """Tells each drain, also a repeated one: an operator was there."""
        self._told[entry.instance.key] = entry.state
        log.info("%s drained by %s%s", entry.instance.key, caller, f": {reason}" if reason else "")

    def undrained(self, entry: ListedInstance, caller: str) -> None:
        """Tells the end of a drain."""
        self._told[entry.instance.key] = entry.state
        log.info("%s undrained by %s, it is %s", entry.instance.key, caller, entry.state)

    def pruned(self, keys: Sequence[InstanceKey], caller: str, older_than: timedelta) -> None:
        """Tells how many; which, the next `observe` does."""
        log.info("%d instances pruned by %s that had been gone for %s", len(keys), caller, older_than)

    def refused(self, key: InstanceKey, caller: str) -> None:
        """A beat after a deregister: only the first is told (rule 4)."""
        if key not in self._refused:
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused.add(key)
            log.warning(
                "%s is deregistered, still beating (from %s): its beats are refused until it registers", key, caller
            )

    def observe(self, listing: Listing) -> None:
        """Tells what differs from the last time; the first time, only how many there are. `listing` is of all
        instances, and says nothing while it is stale.
        """
        if listing is self._seen or listing.stale_since is not None:
            return
        first, self._seen = self._seen is None, listing
        if first:
            self._told |= {entry.instance.key: entry.state for entry in listing.entries}
            if listing.entries:
                log.info("%d instances are known", len(listing.entries))
            return
        told, self._told = self._told, {entry.instance.key: entry.state for entry in listing.entries}
        for entry in listing.entries:
            before = told.get(entry.instance.key)
            if before is not entry.state:
                _tell(entry, before)
        for key in told.keys() - self._told.keys():
            log.info("%s removed", key)


def _tell(entry: ListedInstance, before: InstanceState | None) -> None:
    key, beat = entry.instance.key, entry.instance.last_heartbeat.isoformat(timespec="seconds")
    if entry.state is InstanceState.UNHEALTHY:
        log.warning("%s is unhealthy: last beat %s", key, beat)
    elif before is None:
        log.info("%s is %s: new, last beat %s", key, entry.state, beat)
    else:
        log.info("%s is %s (was %s)", key, entry.state, before)
