"""How a registry in a database answers lists, lookups and events, and the last known list for when it cannot be read.

Calls that arrive together share one read.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property, partial
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE
from dbgpt_ctl.domain.lifecycle import Evaluation, listed
from dbgpt_ctl.errors import RegistryUnusable
from dbgpt_ctl.registry.contract import Listing, RegistryHealth
from dbgpt_ctl.registry.database.tables.events import StreamLost, begin_stream, read_events
from dbgpt_ctl.registry.database.tables.instances import count_instances, found_rows, is_one_of, listed_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from dbgpt_ctl.domain.events import EventPage, EventQuery
    from dbgpt_ctl.domain.instance import InstanceKey, ListedInstance, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.contract import Lookup
    from dbgpt_ctl.registry.database.damaged_rows import DamagedRows
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow
    from dbgpt_ctl.registry.model_counts import CountsByModel

log = logging.getLogger(__name__)


class ListArguments(NamedTuple):
    """The arguments of `ModelRegistry.list`."""

    model_name: str | None
    healthy_only: bool


class LastKnownList:
    """The last list of all instances, from which lists are answered while the database is away (rule 10).

    States stay as they were at `at`: no worker can send a heartbeat while the database is away, so none expires.
    """

    def __init__(self, listing: Listing, at: datetime) -> None:
        self.at = at
        self._all = listing
        self._listings: dict[ListArguments, Listing] = {}

    def listing(self, query: ListArguments, time: datetime | None) -> Listing:
        """The answer to a list, marked as stale, at this time of the registry. Calls with the same arguments get the
        same object.
        """
        known = self._listings.get(query)
        if known is None:
            entries = self._all.entries if query.model_name is None else self._by_model.get(query.model_name, ())
            chosen = tuple(entry for entry in entries if not query.healthy_only or entry.routable)
            known = replace(self._all, entries=chosen, stale_since=self.at, held_until=None, time=time)
        elif known.time != time:
            known = replace(known, time=time)
        if known.entries:  # an empty one is not kept: a stranger may ask for any name
            self._listings[query] = known
        return known

    @cached_property
    def _by_model(self) -> dict[str | None, list[ListedInstance]]:
        return _grouped_by_model(self._all.entries)


def _grouped_by_model(entries: Sequence[ListedInstance]) -> dict[str | None, list[ListedInstance]]:
    """The entries are in order of identity."""
    return {name: list(group) for name, group in groupby(entries, lambda entry: entry.instance.key.model_name)}


class Reader:
    """The reads, each for a batch of calls. They block, answer in the order of the calls and raise as `Database.read`.

    Where absence is watched, the last list of all instances is kept as `last_known`. `held` is the hold that keeps at
    least one instance alive, as of that list.
    """

    def __init__(self, database: Database, time: RegistryTime, unreadable: DamagedRows) -> None:
        self.last_known: LastKnownList | None = None
        self.held: Hold | None = None
        self._database = database
        self._time = time
        self._unreadable = unreadable

    def list_instances(self, queries: Sequence[ListArguments]) -> Sequence[Listing]:
        """The queries are all for models, or all for all instances. Equal queries get the same object."""
        answers = self._database.read(partial(self._listings, set(queries)))
        return [answers[query] for query in queries]

    def look_up(self, keys: Sequence[InstanceKey]) -> Sequence[Lookup | RegistryUnusable | None]:
        """Also a removed instance, for as long as it is remembered; None for any other that is in no list. An error for
        one whose row cannot be read.
        """
        found = self._database.read(partial(self._lookups, set(keys)))
        return [found.get(key) for key in keys]

    def events(self, queries: Sequence[EventQuery]) -> Sequence[EventPage]:
        """One page for each query."""

        unreadable: list[UnreadableRow] = []

        def read(connection: Connection) -> dict[EventQuery, EventPage]:
            unreadable.clear()
            return {query: read_events(connection, query, unreadable) for query in set(queries)}

        try:
            answers = self._database.read(read)
        except StreamLost as error:
            log.warning("%s: a new stream begins", error)
            self._database.write(begin_stream)
            answers = self._database.read(read)
        self._unreadable.note_events(unreadable, (event.id for page in answers.values() for event in page.events))
        return [answers[query] for query in queries]

    def count(self, connection: Connection) -> CountsByModel:
        """The instances by model and state, in one query. Rows of which only other facts cannot be read are counted."""
        evaluation = self._time.evaluation(connection)
        return count_instances(connection, evaluation, evaluation.now - self._time.timeout)

    def health(self) -> RegistryHealth:
        """The health of the registry: while the database is away, the last known list still answers lists."""
        database = self._database.health
        if database.ready:
            return database.with_checks(Check("pulse", str(self.held) if self.held else None))
        if self.last_known is None:
            return database
        at = self.last_known.at
        away = Check("database", f"{database.reason}; lists are as of {at.isoformat(timespec='seconds')}")
        return RegistryHealth(ready=True, checks=(away,), stale_since=at)

    def _listings(self, queries: Collection[ListArguments], connection: Connection) -> dict[ListArguments, Listing]:
        names = {query.model_name for query in queries if query.model_name is not None}
        found, unreadable, evaluation = self._read(
            connection, lambda unreadable: listed_rows(connection, names or None, unreadable)
        )
        self._unreadable.note_instances(unreadable, complete=not names)
        now, timeout, hold = evaluation.now, self._time.timeout, evaluation.hold
        entries = [listed(instance, now, timeout, hold) for instance in found]
        by_model: dict[str | None, list[ListedInstance]] = _grouped_by_model(entries) if names else {None: entries}
        answers = {query: self._listing(by_model.get(query.model_name, []), query, evaluation) for query in queries}
        if not names and self._time.watch_absence:
            everything = ListArguments(None, healthy_only=False)
            self._keep(answers.get(everything) or self._listing(entries, everything, evaluation), evaluation)
        return answers

    def _lookups(
        self, keys: Collection[InstanceKey], connection: Connection
    ) -> dict[InstanceKey, Lookup | RegistryUnusable]:
        found, unreadable, evaluation = self._read(
            connection, lambda unreadable: found_rows(connection, is_one_of(connection, keys), unreadable)
        )
        self._unreadable.note_instances(unreadable, complete=False)
        stored = evaluation.with_timeout(self._time.announcing_timeout)
        answers: dict[InstanceKey, Lookup | RegistryUnusable] = {
            row.key: RegistryUnusable(f"a row of {row.table} cannot be read: {row}; `ctl db check` says what to do")
            for row in unreadable
            if row.key is not None
        }
        for instance in found:
            if not stored.is_forgotten(instance):
                answers[instance.key] = self._time.lookup(instance, evaluation)
        return answers

    def _read(
        self, connection: Connection, read: Callable[[list[UnreadableRow]], list[ModelInstance]]
    ) -> tuple[list[ModelInstance], list[UnreadableRow], Evaluation]:
        unreadable: list[UnreadableRow] = []
        now, pulse = self._time.now_and_pulse(connection)
        found = read(unreadable)
        if pulse and self._is_suspect(found, now):
            # Another controller may have recorded a gap, or a clock that was set back, between the two reads.
            now, later = self._time.now_and_pulse(connection)
            if later and (later.ticked_at < pulse.ticked_at or later.back_at != pulse.back_at):
                unreadable.clear()
                pulse, found = later, read(unreadable)
        return found, unreadable, Evaluation(now, pulse, self._time.timeout)

    def _is_suspect(self, found: Sequence[ModelInstance], now: datetime) -> bool:
        """Whether all heartbeats are too old, or one is in the future. That may be true, but needs a second look."""
        heartbeats = [instance.last_heartbeat for instance in found]
        return bool(heartbeats) and not now - self._time.timeout <= max(heartbeats) <= now + FUTURE_TOLERANCE

    def _listing(self, entries: Sequence[ListedInstance], query: ListArguments, evaluation: Evaluation) -> Listing:
        ends = (evaluation.held_until(entry) for entry in entries) if evaluation.hold else ()
        held_until = next((end for end in ends if end is not None), None)
        if query.healthy_only:
            entries = [entry for entry in entries if entry.routable]
        time = self._time.reported(evaluation.now)
        return Listing(
            tuple(entries),
            held_until=held_until,
            time=time,
            heartbeat_timeouts_secs=self._time.differing_timeouts_secs,
        )

    def _keep(self, everything: Listing, evaluation: Evaluation) -> None:
        """A hold is reported only while it holds at least one instance."""
        self.last_known = LastKnownList(everything, evaluation.now)
        held = evaluation.hold if everything.held_until else None
        if held is not None and held != self.held:
            log.warning("%s", held, extra={"event": "registry.held"})
        elif held is None and self.held is not None:
            log.info("no state is held any longer", extra={"event": "registry.hold_ended"})
        self.held = held
