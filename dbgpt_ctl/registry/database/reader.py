"""How a registry in a database answers lists, and what it keeps of the last full one."""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE, InstanceState, ListedInstance
from dbgpt_ctl.domain.lifecycle import Evaluation, state_of
from dbgpt_ctl.registry.contract import Listing, RegistryHealth
from dbgpt_ctl.registry.database.known import LastKnown
from dbgpt_ctl.registry.database.lookup import foreign_time, lookup
from dbgpt_ctl.registry.database.tables.instances import found_rows, listed_rows, time_of
from dbgpt_ctl.registry.database.tables.pulse import read_pulse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Hold, Pulse
    from dbgpt_ctl.registry.contract import Lookup
    from dbgpt_ctl.registry.database.lanes import Query

log = logging.getLogger(__name__)


class Lists:
    """With `watch_absence`, states are held through a gap in the pulse (rule 8), and the last full list is kept as
    `known` (rule 10). `held` is the hold that keeps somebody alive, as of that list.
    """

    def __init__(self, *, clock: Clock | None, timeout: timedelta, watch_absence: bool) -> None:
        self.known: LastKnown | None = None
        self.held: Hold | None = None
        self._clock = clock
        self._timeout = timeout
        self._watch_absence = watch_absence

    def health(self, database: RegistryHealth) -> RegistryHealth:
        """What the health of the database means for lists."""
        if database.ready:
            return RegistryHealth(ready=True, reason=str(self.held) if self.held else None)
        if self.known is None:
            return database
        at = self.known.at.isoformat(timespec="seconds")
        return RegistryHealth(ready=True, reason=f"{database.reason}; lists are as of {at}")

    def answer(self, queries: Collection[Query], connection: Connection) -> dict[Query, Listing]:
        """One answer per query: either models by name, or all instances."""
        names = {name for name, _ in queries if name is not None}
        found, moment = self._read(connection, lambda: listed_rows(connection, names or None))
        now, hold = moment.now, moment.hold
        entries = [ListedInstance(each, state_of(each, now, self._timeout, hold)) for each in found]
        shelves: dict[str | None, list[ListedInstance]] = {None: entries}
        if names:
            shelves = {name: list(shelf) for name, shelf in groupby(entries, lambda each: each.instance.key.model_name)}
        answers = {query: self._listing(shelves.get(query[0], []), query, now, hold) for query in queries}
        if not names and self._watch_absence:
            self._keep(answers.get((None, False)) or self._listing(entries, (None, False), now, hold), now, hold)
        return answers

    def look_up(self, keys: Collection[InstanceKey], connection: Connection) -> dict[InstanceKey, Lookup]:
        """Those of `keys` that are remembered, tombstones too."""
        found, moment = self._read(connection, lambda: found_rows(connection, keys))
        return {each.key: lookup(each, moment, self._clock) for each in found if not moment.is_forgotten(each)}

    def _read(
        self, connection: Connection, read: Callable[[], list[ModelInstance]]
    ) -> tuple[list[ModelInstance], Evaluation]:
        now, pulse = self._now(connection)
        found = read()
        if pulse and self._is_odd(found, now):
            # Another controller may have told of a gap, or of a clock that was set back, between the two reads.
            now, later = self._now(connection)
            if later and (later.ticked_at < pulse.ticked_at or later.back_at != pulse.back_at):
                pulse, found = later, read()
        return found, Evaluation(now, pulse, self._timeout)

    def _now(self, connection: Connection) -> tuple[datetime, Pulse | None]:
        if not self._watch_absence:
            return time_of(connection, self._clock), None
        return read_pulse(connection, self._clock)

    def _is_odd(self, found: Sequence[ModelInstance], now: datetime) -> bool:
        """Nobody beats, or somebody has beaten in the future: it may well be so, but is worth a second look."""
        beats = [each.last_heartbeat for each in found]
        return bool(beats) and not now - self._timeout <= max(beats) <= now + FUTURE_TOLERANCE

    def _listing(self, entries: Sequence[ListedInstance], query: Query, now: datetime, hold: Hold | None) -> Listing:
        held_until = hold.until if hold and any(self._is_held(each, now) for each in entries) else None
        chosen = [each for each in entries if each.state is InstanceState.HEALTHY] if query[1] else entries
        return Listing(tuple(chosen), held_until=held_until, time=foreign_time(now, self._clock))

    def _is_held(self, entry: ListedInstance, now: datetime) -> bool:
        return entry.beats and state_of(entry.instance, now, self._timeout) is InstanceState.UNHEALTHY

    def _keep(self, everything: Listing, now: datetime, hold: Hold | None) -> None:
        """A hold is told only while it holds somebody."""
        self.known = LastKnown(everything, now)
        held = hold if everything.held_until else None
        if held is not None and held != self.held:
            log.warning("%s", held)
        elif held is None and self.held is not None:
            log.info("no state is held any longer")
        self.held = held
