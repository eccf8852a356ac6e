"""Removes instances that are long gone from a database, and forgets old events. Of several controllers one does it at a
time.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, func, or_, select

from dbgpt_ctl.domain.events import HOUSEKEEPING, Cause
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import RegistryError, RegistryUnavailable, StatesHeld
from dbgpt_ctl.registry.database.tables.controllers import forget_controllers
from dbgpt_ctl.registry.database.tables.events import FORGOTTEN_AT_ONCE, forget_events, too_many, too_old, write_events
from dbgpt_ctl.registry.database.tables.instances import (
    IDENTITY,
    delete_rows,
    is_drained,
    locked_rows,
)
from dbgpt_ctl.registry.database.tables.registry_pulse import claim_sweep
from dbgpt_ctl.registry.database.tables.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.unreadable import is_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import ColumnElement, Connection

    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.lifecycle import Evaluation
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.database.damaged_rows import DamagedRows
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime

SWEEP_EVERY = timedelta(minutes=10)
MAX_REMOVED = 500
"""Rows that one transaction removes: more would keep heartbeats waiting."""
MAX_SWEPT = 5000
"""Rows that a sweep looks for at once, before a prune that waits has its turn. Each search reads the table."""


class Gone(NamedTuple):
    """Which instances to remove: those that have been gone for longer than `gone_for`.

    `unchecked`: also those without `check_healthy` that are silent for longer. `tombstones`: these too.
    """

    gone_for: timedelta
    unchecked: bool = False
    tombstones: bool = False


class PruneArguments(NamedTuple):
    """One call of `ModelRegistry.prune`."""

    gone: Gone
    dry_run: bool
    actor: Actor


PruneAnswer = tuple[InstanceKey, ...]


class Retention:
    """An instance that an operator drained is never removed: that would undo the drain. While states are held, no
    instance is removed (rule 8). Its methods block. `note_removals` is called after rows were removed: a full registry
    has room again.
    """

    def __init__(
        self, database: Database, time: RegistryTime, unreadable: DamagedRows, note_removals: Callable[[], None]
    ) -> None:
        self._database = database
        self._time = time
        self._unreadable = unreadable
        self._note_removals = note_removals

    def forget(self) -> None:
        """Forgets old events and controllers."""
        self._forget_events()
        self._database.write(lambda connection: forget_controllers(connection, self._time.announcing(connection).now))

    def claim_sweep(self) -> bool:
        """Whether this controller is to sweep now: none while states are held, nor when another one has swept a short
        while ago. A transaction of its own, because it locks a row that each tick needs.
        """
        return self._database.write(self._claim_sweep)

    def sweep_some(self, remove_after: timedelta) -> int:
        """Removes up to MAX_SWEPT rows that have been gone for longer than `remove_after`, tombstones too. Returns how
        many.
        """
        gone = Gone(remove_after, tombstones=True)
        _, keys = self._database.read(partial(self._search, gone, MAX_SWEPT))
        return len(self._remove_all(keys, gone, HOUSEKEEPING))

    def prune(self, calls: Sequence[PruneArguments]) -> list[PruneAnswer | Exception]:
        """Does the calls one after the other, and returns the answer of each, or the error that it raises. Calls that
        only look for the same share one search.
        """
        answers: list[PruneAnswer | Exception] = []
        looked: dict[Gone, PruneAnswer] = {}
        for call in calls:
            try:
                found = looked[call.gone] if call.dry_run and call.gone in looked else self._prune(call)
            except RegistryUnavailable as error:  # the next call would wait as long, to get the same error
                return answers + [error] * (len(calls) - len(answers))
            except RegistryError as error:
                answers.append(error)
            else:
                answers.append(found)
                if call.dry_run:
                    looked[call.gone] = found
        return answers

    def _prune(self, call: PruneArguments) -> PruneAnswer:
        """As `ModelRegistry.prune`. Tombstones stay: they still refuse late heartbeats."""
        hold, keys = self._database.read(partial(self._search, call.gone, None))
        if hold is not None:
            raise StatesHeld(hold.nothing_removed)
        return tuple(keys if call.dry_run else self._remove_all(keys, call.gone, call.actor))

    def _forget_events(self) -> None:
        """Needs no claim, since it is cheap when no event is too old: a controller that removes no instances must not
        take the turn of one that does.
        """
        now = self._database.read(lambda connection: self._time.announcing(connection).now)
        for find in (partial(too_old, now), too_many):
            old = self._database.read(find)
            self._database.in_turns(
                lambda numbers: self._database.write(partial(forget_events, numbers, now)), old, FORGOTTEN_AT_ONCE
            )
            self._unreadable.forget_events(old)

    def _claim_sweep(self, connection: Connection) -> bool:
        evaluation = self._time.announcing(connection)
        return evaluation.hold is None and claim_sweep(connection, evaluation.now, SWEEP_EVERY)

    def _search(self, gone: Gone, at_most: int | None, connection: Connection) -> tuple[Hold | None, list[InstanceKey]]:
        """The identities of what is gone, in order; none during the hold that it returns."""
        evaluation = self._time.announcing(connection)
        if evaluation.hold is not None:
            return evaluation.hold, []
        query = select(*IDENTITY).where(_is_gone(gone, evaluation)).order_by(*IDENTITY)
        unreadable = self._unreadable.keys  # their rows stay
        found = map(InstanceKey._make, connection.execute(query.limit(at_most and at_most + len(unreadable))))
        return None, [key for key in found if is_identity(key) and key not in unreadable]

    def _remove_all(self, keys: Sequence[InstanceKey], gone: Gone, actor: Actor) -> list[InstanceKey]:
        remove = partial(self._remove, gone=gone, actor=actor)
        try:
            turns = self._database.in_turns(
                lambda some: self._database.write_changes(partial(remove, some)), keys, MAX_REMOVED
            )
            return list(chain.from_iterable(turns))
        finally:
            self._note_removals()

    def _remove(
        self, keys: Sequence[InstanceKey], connection: Connection, *, gone: Gone, actor: Actor
    ) -> tuple[list[InstanceKey], Sequence[Change]]:
        """Evaluates the locked rows again: since the search an instance may have come back. Returns what it removed,
        and the changes.
        """
        evaluation = self._time.announcing(connection)
        if evaluation.hold is not None:
            return [], ()
        changes: list[Change] = []
        removed: list[InstanceKey] = []
        for instance in locked_rows(connection, keys):
            is_gone = evaluation.is_long_gone(instance, gone.gone_for, unchecked=gone.unchecked)
            if is_gone and (gone.tombstones or not instance.removed):
                announced, due = evaluation.announce(instance)
                changes += due + evaluation.announce_command(announced, None, Cause("prune", actor))[1]
                removed.append(instance.key)
        if removed:
            delete_rows(connection, removed)
            write_events(connection, changes)
        return removed, changes


def _is_gone(gone: Gone, evaluation: Evaluation) -> ColumnElement[bool]:
    """The rule `Evaluation.is_long_gone` as a condition, where no states are held."""
    column, drained, before = INSTANCES.c, is_drained(evaluation.now), evaluation.now - gone.gone_for
    last_call = func.coalesce(column.refused_at, column.deregistered_at)
    deregistered = and_(last_call < before, or_(~drained, column.removed))
    silent = and_(column.last_heartbeat < min(before, evaluation.expires_before), ~drained)
    if not gone.unchecked:
        silent = and_(silent, column.check_healthy)
    found = or_(deregistered, and_(column.deregistered_at.is_(None), silent))
    return found if gone.tombstones else and_(found, ~column.removed)
