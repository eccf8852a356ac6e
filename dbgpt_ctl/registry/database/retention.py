"""Removes from a database what has long been gone, and forgets old events; of several controllers, one at a time."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from dbgpt_ctl.domain.events import HOUSEKEEPING, Cause
from dbgpt_ctl.domain.instance import BEATING
from dbgpt_ctl.domain.lifecycle import is_long_gone
from dbgpt_ctl.registry.database.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.events import FORGOTTEN_AT_ONCE, forget_events, forgettable, write_events
from dbgpt_ctl.registry.database.tables.instances import IDENTITY, delete_rows, found_rows, key_of, locked_rows
from dbgpt_ctl.registry.database.tables.pulse import claim_sweep, moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.events import Actor, Change
    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
    from dbgpt_ctl.domain.lifecycle import Evaluation
    from dbgpt_ctl.registry.database.session import Database

__all__ = ["SWEEP_EVERY", "Housekeeping"]

log = logging.getLogger(__name__)

SWEEP_EVERY = timedelta(minutes=10)
MAX_SWEPT = 500
"""Rows that one transaction removes: more would keep beats waiting."""


class Housekeeping:
    """Blocking. What an operator drained is never removed: that would undo the drain; nothing is while states are held
    (rule 8).
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None,
        timeout: timedelta,
        watch_absence: bool,
        remove_after: timedelta | None,
    ) -> None:
        self._database = database
        self._remove_after = remove_after
        self._moment: Callable[[Connection], Evaluation] = partial(
            moment_of, clock=clock, timeout=timeout, watch_absence=watch_absence
        )

    def sweep(self) -> int:
        """Forgets old events; removes what has been gone for longer than `remove_after`, tombstones too, and tells how
        many. The next sweep takes what is beyond MAX_SWEPT. Nothing when another controller did it a short while ago.
        """
        self._forget_events()
        if self._remove_after is None:
            return 0
        done = self._database.write(partial(self._sweep, self._remove_after))
        if done:
            log.info("%d instances removed that had been gone for %s", done, self._remove_after)
        return done

    def prune(self, older_than: timedelta, actor: Actor, *, dry_run: bool) -> tuple[InstanceKey, ...]:
        """As `ModelRegistry.prune`; tombstones stay, they have a duty."""
        gone = self._database.read(partial(self._pruned, older_than))
        if dry_run:
            return tuple(gone)
        batches = (gone[start : start + MAX_SWEPT] for start in range(0, len(gone), MAX_SWEPT))
        works = (partial(self._prune, batch, older_than, actor) for batch in batches)
        return tuple(key for keys in self._database.write_in_turns(works) for key in keys)

    def _forget_events(self) -> None:
        """Cheap when none is too old, so nobody claims it: one that removes nothing else must not take another
        controller's turn.
        """
        span = self._database.read(lambda connection: forgettable(connection, self._moment(connection).now))
        if span is None:
            return
        starts = range(*span, FORGOTTEN_AT_ONCE)
        works = (partial(forget_events, before=min(start + FORGOTTEN_AT_ONCE, span[1])) for start in starts)
        for _ in self._database.write_in_turns(works):
            pass

    def _sweep(self, remove_after: timedelta, connection: Connection) -> int:
        moment = self._moment(connection)
        if moment.hold is not None or not claim_sweep(connection, moment.now, SWEEP_EVERY):
            return 0
        keys = _long_gone(connection, moment.now - remove_after)[:MAX_SWEPT]
        return len(_remove(connection, keys, moment, remove_after, HOUSEKEEPING, tombstones=True))

    def _pruned(self, older_than: timedelta, connection: Connection) -> list[InstanceKey]:
        moment = self._moment(connection)
        if moment.hold is not None:
            return []
        keys = _long_gone(connection, moment.now - older_than)
        batches = (keys[start : start + MAX_SWEPT] for start in range(0, len(keys), MAX_SWEPT))
        before = moment.now - older_than
        return sorted(
            each.key
            for batch in batches
            for each in found_rows(connection, batch)
            if not each.removed and _is_gone(each, moment, before)
        )

    def _prune(
        self, keys: Sequence[InstanceKey], older_than: timedelta, actor: Actor, connection: Connection
    ) -> list[InstanceKey]:
        return _remove(connection, keys, self._moment(connection), older_than, actor, tombstones=False)


def _remove(
    connection: Connection,
    keys: Sequence[InstanceKey],
    moment: Evaluation,
    gone_for: timedelta,
    actor: Actor,
    *,
    tombstones: bool,
) -> list[InstanceKey]:
    """Some may have come back since; what is locked does not."""
    if not keys or moment.hold is not None:
        return []
    before = moment.now - gone_for
    gone = [each for each in locked_rows(connection, keys) if _is_gone(each, moment, before)]
    gone = [each for each in gone if tombstones or not each.removed]
    if not gone:
        return []
    changes: list[Change] = []
    for each in gone:
        told, expiry = moment.announce_expiry(each)
        _, removal = moment.announce_command(told, None, Cause("prune", actor))
        changes += expiry + removal
    delete_rows(connection, [each.key for each in gone])
    write_events(connection, changes)
    return [each.key for each in gone]


def _is_gone(instance: ModelInstance, moment: Evaluation, before: datetime) -> bool:
    return is_long_gone(instance, before) and moment.state_of(instance) not in BEATING


def _long_gone(connection: Connection, before: datetime) -> list[InstanceKey]:
    column = INSTANCES.c
    gone = or_(
        and_(column.deregistered_at < before, or_(column.enabled, column.removed)),
        and_(column.deregistered_at.is_(None), column.last_heartbeat < before, column.check_healthy, column.enabled),
    )
    return sorted(key_of(row) for row in connection.execute(select(*IDENTITY).where(gone)))
