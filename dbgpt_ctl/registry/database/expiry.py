"""Tells what time alone has changed in a database: whose beat got too old; of several controllers, one at a time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from dbgpt_ctl.domain.instance import BEATING, InstanceState
from dbgpt_ctl.registry.database.schema import INSTANCES
from dbgpt_ctl.registry.database.tables.events import write_events
from dbgpt_ctl.registry.database.tables.instances import IDENTITY, among, key_of, locked_rows
from dbgpt_ctl.registry.database.tables.pulse import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.domain.lifecycle import Evaluation
    from dbgpt_ctl.registry.database.session import Database

__all__ = ["Announcer"]

BATCH = 200
"""Instances that share a transaction: their beats wait for it."""
REST = 20
"""To look takes a scan of the table; it is not done again before so many times as long has passed."""


class Announcer:
    """Blocking. An expiry is told in one transaction with the fact that it was told, so once by all controllers."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None,
        timeout: timedelta,
        watch_absence: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._timeout = timeout
        self._watch_absence = watch_absence
        self._monotonic = monotonic
        self._rests_until = 0.0

    def announce(self) -> None:
        """Looks, and tells of all who expired. Raises as `Database.write`."""
        keys = self._database.read(self._overdue)
        starts = range(0, len(keys), BATCH)
        for _ in self._database.write_in_turns(partial(self._tell, keys[start : start + BATCH]) for start in starts):
            pass

    def announce_now_and_then(self) -> None:
        """The same, but rests in proportion to what looking costs."""
        if self._monotonic() >= self._rests_until:
            self.announce()

    def _moment(self, connection: Connection) -> Evaluation:
        return moment_of(connection, self._clock, self._timeout, watch_absence=self._watch_absence)

    def _overdue(self, connection: Connection) -> list[InstanceKey]:
        column = INSTANCES.c
        wanted = select(*IDENTITY).where(
            column.last_heartbeat < self._moment(connection).expires_before,
            column.announced_state.in_(sorted(BEATING)),
            column.deregistered_at.is_(None),
            column.check_healthy,
            ~column.removed,
        )
        started = self._monotonic()
        found = sorted(key_of(row) for row in connection.execute(wanted))
        ended = self._monotonic()
        self._rests_until = ended + REST * (ended - started)
        return found

    def _tell(self, keys: Sequence[InstanceKey], connection: Connection) -> None:
        """Some may have beaten since, or another controller told of them: what is locked is judged again."""
        locked = locked_rows(connection, keys)
        moment = self._moment(connection)
        overdue = [each for each in locked if moment.is_expiry_unannounced(each)]
        if not overdue:
            return
        values = {"announced_state": InstanceState.UNHEALTHY, "flaps": INSTANCES.c.flaps + 1}
        connection.execute(update(INSTANCES).where(among([each.key for each in overdue])).values(values))
        changes = [change for each in overdue for change in moment.announce_expiry(each)[1]]
        write_events(connection, sorted(changes, key=lambda change: (change.time, change.key)))
