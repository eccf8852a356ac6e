"""Statements on `ctl_controller`, and what a controller does with it: it keeps a row, and knows the other ones."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update

from dbgpt_ctl.domain.controllers import FORGOTTEN_AFTER, ControllerRecord, announcing_timeout, setting_differences
from dbgpt_ctl.registry.database.schema import CONTROLLERS
from dbgpt_ctl.registry.database.tables.instances import database_time, time_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.controllers import ControllerIdentity, SettingDifference
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime

log = logging.getLogger(__name__)

_C = CONTROLLERS.c
_RECORDS = select(
    _C.id,
    _C.version,
    _C.address,
    _C.heartbeat_timeout_secs,
    _C.heartbeat_interval_secs,
    _C.started_at,
    _C.seen_at,
)


class SharingControllers:
    """The living controllers that share the database, as of the last tick; this one, `own`, is among them."""

    def __init__(self, own: ControllerIdentity, time: RegistryTime, heartbeat_interval: timedelta) -> None:
        self.living: tuple[ControllerRecord, ...] = ()
        self.differences: tuple[SettingDifference, ...] = ()
        self._own = own
        self._time = time
        self._interval = heartbeat_interval
        self._started_at: datetime | None = None

    def keep(self, connection: Connection) -> None:
        """Renews this controller's row when that is due, and reads the others'. Runs before each tick."""
        now, found = read_controllers(connection, self._time.clock)
        mine = next((record for record in found if record.id == self._own.id), None)
        if mine is None or mine.is_due(now):
            self._store(connection)
            now, found = read_controllers(connection, self._time.clock)
        self._note(tuple(record for record in found if record.is_living(now)))

    def leave(self, connection: Connection) -> None:
        """Removes this controller's row."""
        connection.execute(delete(CONTROLLERS).where(_C.id == self._own.id))

    def _store(self, connection: Connection) -> None:
        clock = self._time.clock
        now = database_time(connection.dialect.name) if clock is None else clock.now()
        if connection.execute(update(CONTROLLERS).where(_C.id == self._own.id).values(seen_at=now)).rowcount:
            return
        if self._started_at is None:
            # A process that was killed at this address lives no more: this one listens there now.
            connection.execute(delete(CONTROLLERS).where(_C.address == self._own.address))
        values = {
            **self._own._asdict(),
            "heartbeat_timeout_secs": self._time.timeout.total_seconds(),
            "heartbeat_interval_secs": self._interval.total_seconds(),
            "started_at": self._started_at or now,
            "seen_at": now,
        }
        connection.execute(insert(CONTROLLERS).values(values))

    def _note(self, living: tuple[ControllerRecord, ...]) -> None:
        self.living = living
        self._started_at = next((record.started_at for record in living if record.id == self._own.id), self._started_at)
        self._time.announcing_timeout = announcing_timeout(self._time.timeout, living)
        differences = tuple(setting_differences(living))
        if differences != self.differences:
            for difference in differences:
                log.warning("%s", difference.line)
            if not differences:
                log.info("the controllers have the same settings again")
            self.differences = differences


def read_controllers(connection: Connection, clock: Clock | None) -> tuple[datetime, list[ControllerRecord]]:
    """The time (rule 7) and all records, in one round trip if there is one."""
    rows = connection.execute(_RECORDS if clock else _records_and_time(connection.dialect.name)).all()
    now = rows[0].now if rows and clock is None else time_of(connection, clock)
    return now, [_record(row) for row in rows]


def forget_controllers(connection: Connection, now: datetime) -> None:
    """Removes the rows of controllers that ended long ago and could not do it themselves."""
    old = connection.scalars(select(_C.id).where(_C.seen_at < now - FORGOTTEN_AFTER)).all()
    if old:  # a DELETE by time would lock the rows of the others, too
        connection.execute(delete(CONTROLLERS).where(_C.id.in_(old)))


@cache
def _records_and_time(dialect: str) -> Select[Any]:
    return _RECORDS.add_columns(database_time(dialect).label("now"))


def _record(row: Any) -> ControllerRecord:
    return ControllerRecord(
        row.id,
        row.version,
        row.address,
        timedelta(seconds=row.heartbeat_timeout_secs),
        timedelta(seconds=row.heartbeat_interval_secs),
        row.started_at,
        row.seen_at,
    )
