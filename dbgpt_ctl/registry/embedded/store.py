"""What the embedded registry does: facts in dictionaries, the rules applied to them, and what is told of it.

Synchronous, and time is an argument: each call is atomic because nothing waits in it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.commands import Heartbeat
from dbgpt_ctl.domain.events import HOUSEKEEPING, Cause
from dbgpt_ctl.domain.instance import BEATING, ListedInstance
from dbgpt_ctl.domain.lifecycle import Evaluation, is_long_gone
from dbgpt_ctl.domain.registry_outage import Pulse, moved_back
from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.contract import Lookup
from dbgpt_ctl.registry.embedded.expiry_queue import Deadlines
from dbgpt_ctl.registry.embedded.index import Shelves
from dbgpt_ctl.registry.embedded.snapshot import Saved

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.commands import Command
    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.embedded.event_log import EventLog

__all__ = ["Store"]


class Store:
    """A beat costs the same at 100 and at 100,000 instances. `pulse` is None where absence is not watched."""

    def __init__(self, *, heartbeat_timeout: timedelta, max_instances: int, log: EventLog) -> None:
        self._timeout = heartbeat_timeout
        self._max_instances = max_instances
        self._deadlines = Deadlines()
        self.shelves = Shelves()
        self.log = log
        self.pulse: Pulse | None = None
        self.changes = 0
        """Rises with each change but a plain beat."""

    # --- the verbs of `ModelRegistry` ---

    def call(self, call: Command, now: datetime) -> bool:
        """Does it, and gives its answer. Raises RegistryFull."""
        stored = self.shelves.get(call.key)
        if stored is not None and isinstance(call, Heartbeat) and self._is_plain(stored, now):
            self.shelves.replace(stored.with_heartbeat(now))
            return True
        moment = self._moment(now)
        stored = self._find(call.key, moment)
        after, answer = call.apply(stored, now)
        if after is not None:
            self._settle(stored, after, moment, call.cause)
        return answer

    def get(self, key: InstanceKey, now: datetime) -> Lookup | None:
        stored, moment = self.shelves.get(key), self._moment(now)
        if stored is None or moment.is_forgotten(stored):
            return None
        entry = ListedInstance(stored, moment.state_of(stored))
        return Lookup(entry, held_until=moment.held_until(entry))

    def long_gone(self, before: datetime, now: datetime) -> list[ModelInstance]:
        """Tombstones among them, in order of identity; none while states are held (rule 8)."""
        moment = self._moment(now)
        if moment.hold is not None:
            return []
        found = (each for each in self.shelves.instances() if is_long_gone(each, before))
        return sorted((each for each in found if moment.state_of(each) not in BEATING), key=lambda each: each.key)

    def prune(self, gone: list[ModelInstance], now: datetime, actor: Actor = HOUSEKEEPING) -> None:
        """Forgets them."""
        moment = self._moment(now)
        for each in gone:
            self._settle(self._find(each.key, moment), None, moment, Cause("prune", actor))

    # --- time that passes ---

    def ticked(self, now: datetime) -> None:
        """Notes that the registry lives, or that it was away, or that its clock was set back (rule 8)."""
        before = self.pulse or Pulse(now)
        step = before.set_back(now)
        self.pulse = before.ticked(now, self._timeout)
        if step:
            for each in list(self.shelves.instances()):
                self.shelves.put(replace(each, last_heartbeat=moved_back(each.last_heartbeat, now, step) or now))
            self.changes += 1
        if step or self.pulse.gone_at != before.gone_at:
            self._reckon(now)

    def announce(self, now: datetime, *, at_most: int | None = None) -> None:
        """Tells who expired, in order of time. Looks at so many at most: the others wait for the next call."""
        self.log.forget_old(now)
        moment = self._moment(now)
        told: list[Change] = []
        early: list[tuple[InstanceKey, datetime]] = []
        for key, at in islice(self._deadlines.due(now), at_most):
            stored = self.shelves.get(key)
            if stored is None or not _may_expire(stored):
                continue
            due = moment.expires_at(stored)
            if due > at:
                self._deadlines.note(key, due)
            elif changes := self._expire(stored, moment)[1]:
                told += changes
            else:
                early.append((key, due))
        for key, due in early:
            self._deadlines.note(key, max(due, now))
        self.log.extend(told)
        self.changes += len(told)

    def hold(self, now: datetime) -> Hold | None:
        return self.pulse.hold(now, self._timeout) if self.pulse else None

    # --- a life after this process ---

    def saved(self, *, complete: bool) -> Saved:
        """All there is."""
        instances = tuple(self.shelves.instances())
        return Saved(instances, self.pulse, self.log.stream, self.log.last_id, self.log.events, complete=complete)

    def restore(self, saved: Saved, now: datetime) -> None:
        """Goes on in the same stream only when nothing can have been told after `saved`."""
        self.pulse = saved.pulse
        moment = self._moment(now)
        for each in saved.instances[: self._max_instances]:
            announced = each.announced_state if saved.stream else moment.state_of(each)
            self.shelves.put(replace(each, announced_state=announced))
        stream = saved.stream if saved.stream and saved.complete else self.log.stream
        self.log.restore(stream, saved.last_id, saved.events)
        self._reckon(now)

    # --- the parts ---

    def _is_plain(self, stored: ModelInstance, now: datetime) -> bool:
        """Whether a beat changes nothing but itself: most do."""
        beat = stored.last_heartbeat
        return stored.announced_state in BEATING and beat <= now and (now - beat) <= self._timeout

    def _moment(self, now: datetime) -> Evaluation:
        return Evaluation(now, self.pulse, self._timeout)

    def _find(self, key: InstanceKey, moment: Evaluation) -> ModelInstance | None:
        """What is known of it; that it expired is told before anything else happens to it."""
        stored = self.shelves.get(key)
        if stored is None:
            return None
        if moment.is_forgotten(stored):
            self.shelves.forget(key)
            return None
        stored, changes = self._expire(stored, moment)
        self.log.extend(changes)
        self.changes += len(changes)
        return stored

    def _expire(self, stored: ModelInstance, moment: Evaluation) -> tuple[ModelInstance, list[Change]]:
        after, changes = moment.announce_expiry(stored)
        if changes:
            self.shelves.put(after)
        return after, changes

    def _settle(
        self, before: ModelInstance | None, after: ModelInstance | None, moment: Evaluation, cause: Cause
    ) -> None:
        if before is None and after is not None:
            self._make_room(after, moment)
        announced, changes = moment.announce_command(before, after, cause)
        if announced is not None:
            self.shelves.put(announced)
            if _may_expire(announced):
                self._deadlines.note(announced.key, moment.expires_at(announced))
        elif before is not None:
            self.shelves.forget(before.key)
        self.log.extend(changes)
        self.changes += after is not before

    def _reckon(self, now: datetime) -> None:
        """All deadlines anew: they are other ones, and maybe sooner, after a gap."""
        moment = self._moment(now)
        may = (each for each in self.shelves.instances() if _may_expire(each))
        self._deadlines.replace((each.key, moment.expires_at(each)) for each in may)

    def _make_room(self, newcomer: ModelInstance, moment: Evaluation) -> None:
        """Lets go of tombstones that have done their duty, but only when their room is needed."""
        if len(self.shelves) < self._max_instances:
            return
        while (key := self.shelves.oldest_tombstone()) and self._find(key, moment) is None:
            pass
        if len(self.shelves) >= self._max_instances:
            raise RegistryFull(
                f"{newcomer.key} refused: it would be one more than the {len(self.shelves)} that --max-instances "
                "allows; deregister some with --remove or raise it"
            )


def _may_expire(instance: ModelInstance) -> bool:
    return instance.check_healthy and instance.announced_state in BEATING and instance.deregistered_at is None
