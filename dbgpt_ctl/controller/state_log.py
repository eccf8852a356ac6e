"""The log of instances: one line per change of state or drain, and none per heartbeat."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import ABSENT, DRAIN_ENDED, EXPIRE
from dbgpt_ctl.errors import VerbNotSupported

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import ModelRegistry

log = logging.getLogger("dbgpt_ctl.instances")

PAGE = 1000
MAX_REFUSED = 10_000
"""At most this many instances whose heartbeats are refused are remembered; beyond, a warning may be repeated."""


class StateLog:
    """Follows the numbered events of a registry, and logs each change of state with the caller that made it.

    Of several controllers on one database, each logs all changes.
    """

    def __init__(self) -> None:
        self._stream: str | None = None
        self._last_id = 0
        self._must_count = False
        self._without_events: ModelRegistry | None = None
        self._refused: set[InstanceKey] = set()

    async def follow(self, registry: ModelRegistry) -> None:
        """Logs the changes since the last call. Raises what `registry` raises; the next call then continues.

        The first call, and the first one for another numbering of events, logs nothing. The call after it logs how many
        instances are known, if any were before: to count them may take long, and the first call delays requests.
        """
        if registry is self._without_events:
            return
        try:
            if self._must_count:
                known = len((await registry.list()).entries)
                self._must_count = False
                if known:
                    log.info("%d instances are known", known)
            more = True
            while more:
                more = await self._follow_page(registry)
                await asyncio.sleep(0)  # heartbeats have their turn
        except VerbNotSupported:
            self._without_events = registry
            log.info("the registry has no events: changes of state are not logged")

    def refused(self, key: InstanceKey, caller: str) -> None:
        """Logs that a heartbeat was refused, once until the instance registers again (rule 4). It may log it twice for
        an instance that registers and is deregistered again between two calls of `follow`.
        """
        if key not in self._refused:
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused.add(key)
            log.warning(
                "%s is deregistered, still beating (from %s): its beats are refused until it registers", key, caller
            )

    async def _follow_page(self, registry: ModelRegistry) -> bool:
        """Whether there may be more events now."""
        if self._stream is None:
            page = await registry.events(limit=1)
        else:
            page = await registry.events(after=self._last_id, limit=PAGE)
        if page.stream != self._stream:
            self._stream, self._last_id, self._must_count = page.stream, page.last_id, page.last_id > 0
            return False
        if page.missed:
            log.warning("changes of state are missing here: the registry does not have their events any more")
        for event in page.events:
            self._log_change(event.change)
        self._last_id = page.events[-1].id if page.events else page.last_id
        return len(page.events) == PAGE

    def _log_change(self, change: Change) -> None:
        if change.cause.verb == "register":
            self._refused.discard(change.key)
        level = logging.WARNING if change.cause.verb == EXPIRE else logging.INFO
        log.log(level, "%s %s", change.key, described(change))


def described(change: Change) -> str:
    """A change as the log has it, after the name of the instance."""
    verb, actor, reason = change.cause
    if change.cause == DRAIN_ENDED:
        return f"is not drained any more: the time of the drain is over, it is {change.new}"
    caller = actor.address or actor.kind
    changed = f"is {change.new} (was {change.old})"
    phrases = {
        "register": f"registered by {caller}",
        "heartbeat": f"is {change.new}: new, by a heartbeat from {caller}" if change.old == ABSENT else changed,
        "deregister": f"{'removed' if change.new == ABSENT else 'deregistered'} by {caller}",
        "drain": f"drained by {caller}: {reason}" if reason else f"drained by {caller}",
        "undrain": f"undrained by {caller}, it is {change.new}",
        "prune": f"pruned by {caller}",
        EXPIRE: f"is unhealthy since {change.time.isoformat(timespec='seconds')}: its last heartbeat is too old",
    }
    return phrases.get(verb, changed)
