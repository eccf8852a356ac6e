"""Announces the expiry of instances in a database, whose heartbeat got too old. Several controllers do it in turn."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from dbgpt_ctl.domain.instance import BEATING, InstanceKey, InstanceState
from dbgpt_ctl.registry.database.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.events import write_events
from dbgpt_ctl.registry.database.tables.instances import IDENTITY, is_one_of, locked_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from dbgpt_ctl.registry.database.session import Database
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime

BATCH = 200
"""Instances that share a transaction: their heartbeats wait for it."""
REST_FACTOR = 20
"""A search scans the table. The next one comes after at least 20 times as long as the last one took."""


class ExpiryAnnouncer:
    """An expiry and the fact that it is announced are stored in one transaction, so that all controllers together
    announce it once. Its methods block.
    """

    def __init__(
        self, database: Database, registry_time: RegistryTime, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._time = registry_time
        self._monotonic = monotonic
        self._rests_until = 0.0

    def announce(self) -> None:
        """Searches for expired instances and announces all of them. Raises as `Database.write`."""
        self._database.write_in_turns(self._announce, self._database.read(self._search), BATCH)

    def announce_unless_resting(self) -> None:
        """The same, but not before the rest after the last search is over."""
        if self._monotonic() >= self._rests_until:
            self.announce()

    def _search(self, connection: Connection) -> list[InstanceKey]:
        column = INSTANCES.c
        expired = select(*IDENTITY).where(
            column.last_heartbeat < self._time.evaluation(connection).expires_before,
            column.announced_state.in_(sorted(BEATING)),
            column.deregistered_at.is_(None),
            column.check_healthy,
            ~column.removed,
        )
        started = self._monotonic()
        found = sorted(map(InstanceKey._make, connection.execute(expired)))
        ended = self._monotonic()
        self._rests_until = ended + REST_FACTOR * (ended - started)
        return found

    def _announce(self, keys: Sequence[InstanceKey], connection: Connection) -> None:
        """Evaluates the locked rows again: since the search an instance may have sent a heartbeat, or another
        controller may have announced its expiry.
        """
        locked = locked_rows(connection, keys)
        evaluation = self._time.evaluation(connection)
        expired = [instance for instance in locked if evaluation.is_expiry_unannounced(instance)]
        if not expired:
            return
        values = {"announced_state": InstanceState.UNHEALTHY, "flaps": INSTANCES.c.flaps + 1}
        connection.execute(update(INSTANCES).where(is_one_of([instance.key for instance in expired])).values(values))
        changes = [change for instance in expired for change in evaluation.announce_expiry(instance)[1]]
        write_events(connection, sorted(changes, key=lambda change: (change.time, change.key)))
