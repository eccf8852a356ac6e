"""Announces what time alone changes in a database: an instance expires, or the time of a drain is over. Several
controllers do it in turn.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.registry.database.tables.events import write_events
from dbgpt_ctl.registry.database.tables.instances import IDENTITY, is_drain_over, is_silent, locked_rows, update_rows
from dbgpt_ctl.registry.database.tables.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.unreadable import is_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from dbgpt_ctl.domain.events import Change
    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime

BATCH = 200
"""Instances that share a transaction: their heartbeats wait for it."""
REST_FACTOR = 20
"""A search scans the table. The next one comes after at least 20 times as long as the last one took."""


class ExpiryAnnouncer:
    """An expiry or the end of a drain, and the fact that it is announced, are stored in one transaction, so that all
    controllers together announce it once. Its methods block.
    """

    def __init__(
        self, database: Database, registry_time: RegistryTime, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._time = registry_time
        self._monotonic = monotonic
        self._rests_until = 0.0

    def announce(self) -> None:
        """Searches for expired instances and ended drains, and announces all of them. Raises as `Database.write`."""
        found = self._database.read(self._search)
        self._database.in_turns(lambda keys: self._database.write_changes(partial(self._announce, keys)), found, BATCH)

    def announce_unless_resting(self) -> None:
        """The same, but not before the rest after the last search is over."""
        if self._monotonic() >= self._rests_until:
            self.announce()

    def _search(self, connection: Connection) -> list[InstanceKey]:
        column, evaluation = INSTANCES.c, self._time.announcing(connection)
        has_expired = and_(is_silent(evaluation), column.announced_state == InstanceState.HEALTHY, ~column.removed)
        due = select(*IDENTITY).where(or_(has_expired, is_drain_over(evaluation.now)))
        started = self._monotonic()
        found = sorted(filter(is_identity, map(InstanceKey._make, connection.execute(due))))
        ended = self._monotonic()
        self._rests_until = ended + REST_FACTOR * (ended - started)
        return found

    def _announce(self, keys: Sequence[InstanceKey], connection: Connection) -> tuple[None, Sequence[Change]]:
        """Evaluates the locked rows again: since the search an instance may have sent a heartbeat or may have been
        drained anew, or another controller may have announced the same.
        """
        locked = locked_rows(connection, keys)
        evaluation = self._time.announcing(connection)
        announced = [evaluation.announce(instance) for instance in locked]
        update_rows(connection, zip(locked, (after for after, _ in announced), strict=True))
        changes = sorted(
            (change for _, found in announced for change in found), key=lambda change: (change.time, change.key)
        )
        write_events(connection, changes)
        return None, changes
