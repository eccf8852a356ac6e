"""Removes instances that are long gone from a database, and forgets old events. Of several controllers one does it at a
time.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from dbgpt_ctl.domain.events import HOUSEKEEPING, Cause
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.domain.lifecycle import is_long_gone
from dbgpt_ctl.errors import StatesHeld
from dbgpt_ctl.registry.database.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.controllers import forget_controllers
from dbgpt_ctl.registry.database.tables.events import FORGOTTEN_AT_ONCE, forget_events, forgettable, write_events
from dbgpt_ctl.registry.database.tables.instances import (
    IDENTITY,
    delete_rows,
    found_rows,
    is_drained,
    locked_rows,
)
from dbgpt_ctl.registry.database.tables.registry_pulse import claim_sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.instance import ModelInstance
    from dbgpt_ctl.domain.lifecycle import Evaluation
    from dbgpt_ctl.domain.registry_outage import Hold
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime

log = logging.getLogger(__name__)

SWEEP_EVERY = timedelta(minutes=10)
MAX_REMOVED = 500
"""Rows that one transaction removes: more would keep heartbeats waiting."""


class Retention:
    """An instance that an operator drained is never removed: that would undo the drain. While states are held, no
    instance is removed (rule 8). Its methods block.
    """

    def __init__(self, database: Database, time: RegistryTime, remove_after: timedelta | None) -> None:
        self._database = database
        self._time = time
        self._remove_after = remove_after

    def sweep(self) -> int:
        """Forgets old events and controllers; removes what has been gone for longer than `remove_after`, tombstones
        too, and returns how many rows. The next sweep takes what is beyond MAX_REMOVED. Removes no instance when
        another controller has swept a short while ago.
        """
        self._forget_events()
        self._forget_controllers()
        if self._remove_after is None:
            return 0
        count = self._database.write(partial(self._sweep, self._remove_after))
        if count:
            log.info("%d instances removed that had been gone for %s", count, self._remove_after)
        return count

    def prune(self, older_than: timedelta, actor: Actor, *, dry_run: bool) -> tuple[InstanceKey, ...]:
        """As `ModelRegistry.prune`. Tombstones stay: they still refuse late heartbeats."""
        hold, gone = self._database.read(partial(self._search, older_than))
        if hold is not None:
            raise StatesHeld(hold.nothing_removed)
        if dry_run:
            return tuple(gone)
        remove = partial(self._remove, gone_for=older_than, actor=actor, tombstones=False)
        return tuple(key for keys in self._database.write_in_turns(remove, gone, MAX_REMOVED) for key in keys)

    def _forget_events(self) -> None:
        """Needs no claim, since it is cheap when no event is too old: a controller that removes no instances must not
        take the turn of one that does.
        """
        old = self._database.read(lambda connection: forgettable(connection, self._time.announcing(connection).now))
        self._database.write_in_turns(forget_events, old, FORGOTTEN_AT_ONCE)

    def _forget_controllers(self) -> None:
        self._database.write(lambda connection: forget_controllers(connection, self._time.announcing(connection).now))

    def _sweep(self, remove_after: timedelta, connection: Connection) -> int:
        evaluation = self._time.announcing(connection)
        if evaluation.hold is not None or not claim_sweep(connection, evaluation.now, SWEEP_EVERY):
            return 0
        # The claim locks a row that each tick needs: of any number of rows, only the next ones to remove are read.
        query = select(*IDENTITY).where(_long_gone(evaluation.now - remove_after, evaluation.now)).order_by(*IDENTITY)
        keys = [InstanceKey._make(row) for row in connection.execute(query.limit(MAX_REMOVED))]
        return len(self._remove(keys, connection, gone_for=remove_after, actor=HOUSEKEEPING, tombstones=True))

    def _search(self, older_than: timedelta, connection: Connection) -> tuple[Hold | None, list[InstanceKey]]:
        evaluation = self._time.announcing(connection)
        if evaluation.hold is not None:
            return evaluation.hold, []
        before = evaluation.now - older_than
        found = found_rows(connection, _long_gone(before, evaluation.now))
        return None, sorted(row.key for row in found if not row.removed and _is_gone(row, evaluation, before))

    def _remove(
        self,
        keys: Sequence[InstanceKey],
        connection: Connection,
        *,
        gone_for: timedelta,
        actor: Actor,
        tombstones: bool,
    ) -> list[InstanceKey]:
        """Evaluates the locked rows again: since the search an instance may have come back."""
        evaluation = self._time.announcing(connection)
        if not keys or evaluation.hold is not None:
            return []
        before = evaluation.now - gone_for
        gone = [instance for instance in locked_rows(connection, keys) if _is_gone(instance, evaluation, before)]
        gone = [instance for instance in gone if tombstones or not instance.removed]
        if not gone:
            return []
        changes: list[Change] = []
        for instance in gone:
            announced, due = evaluation.announce(instance)
            changes += due + evaluation.announce_command(announced, None, Cause("prune", actor))[1]
        removed = [instance.key for instance in gone]
        delete_rows(connection, removed)
        write_events(connection, changes)
        return removed


def _is_gone(instance: ModelInstance, evaluation: Evaluation, before: datetime) -> bool:
    return is_long_gone(instance, before, evaluation.now) and evaluation.state_of(instance) is not InstanceState.HEALTHY


def _long_gone(before: datetime, now: datetime) -> ColumnElement[bool]:
    """The rule `is_long_gone` as a condition."""
    column, drained = INSTANCES.c, is_drained(now)
    return or_(
        and_(func.coalesce(column.refused_at, column.deregistered_at) < before, or_(~drained, column.removed)),
        and_(column.deregistered_at.is_(None), column.last_heartbeat < before, column.check_healthy, ~drained),
    )
