"""Statements on `ctl_controller`, and what a controller does with it: it keeps a row, and knows the other ones."""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import delete, insert, or_, select, update

from dbgpt_ctl.domain.controllers import (
    FORGOTTEN_AFTER,
    MAX_SETTING,
    ControllerRecord,
    announcing_timeout,
    differing_timeouts_secs,
    setting_differences,
)
from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE
from dbgpt_ctl.registry.database.tables.instances import database_time, time_of
from dbgpt_ctl.registry.database.tables.schema import CONTROLLERS
from dbgpt_ctl.registry.database.tables.unreadable import name_in, read_rows

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.controllers import ControllerIdentity, SettingDifference
    from dbgpt_ctl.registry.database.tables.registry_pulse import RegistryTime
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow

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
        self._unreadable: frozenset[str] = frozenset()

    def keep(self, connection: Connection) -> None:
        """Renews this controller's row when that is due, and reads the others'. Runs before each tick."""
        found = read_controllers(connection, self._time.clock)
        mine = next((record for record in found.records if record.id == self._own.id), None)
        if self._own.id in found.unreadable:
            connection.execute(delete(CONTROLLERS).where(_C.id == self._own.id))  # it is stored anew
        if mine is None or mine.is_due(found.now):
            self._store(connection)
            found = read_controllers(connection, self._time.clock)
        self._note(tuple(record for record in found.records if record.is_living(found.now)))
        self._note_unreadable(found.unreadable)

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
        self._time.differing_timeouts_secs = differing_timeouts_secs(living)
        differences = tuple(setting_differences(living))
        if differences != self.differences:
            for difference in differences:
                log.warning("%s", difference.line, extra={"event": "controllers.settings_differ"})
            if not differences:
                log.info("the controllers have the same settings again", extra={"event": "controllers.settings_agree"})
            self.differences = differences

    def _note_unreadable(self, unreadable: frozenset[str]) -> None:
        for controller in sorted(unreadable - self._unreadable):
            log.warning(
                "the row of controller %s in %s is ignored: its settings make no sense", controller, CONTROLLERS
            )
        self._unreadable = unreadable

    @property
    def unreadable(self) -> str | None:
        """What health says of rows that are ignored."""
        if not self._unreadable:
            return None
        return (
            f"rows of {CONTROLLERS} make no sense and are ignored ({', '.join(sorted(self._unreadable))}): delete them"
        )


class FoundControllers(NamedTuple):
    """The rows of `ctl_controller` at the time `now`; `unreadable` are the ids of those without sense."""

    now: datetime
    records: list[ControllerRecord]
    unreadable: frozenset[str]


def read_controllers(connection: Connection, clock: Clock | None) -> FoundControllers:
    """The time (rule 7) and all rows, in one round trip if there is one."""
    query = _RECORDS if clock else _records_and_time(connection.dialect.name)
    unreadable: list[UnreadableRow] = []
    found = read_rows(connection, query, lambda row: (_record(row), None if clock else row.now), unreadable)
    now = found[0][1] if found else None
    return FoundControllers(
        time_of(connection, clock) if now is None else now,
        [record for record, _ in found],
        frozenset(name_in(row.values["id"]) for row in unreadable),
    )


def forget_controllers(connection: Connection, now: datetime) -> None:
    """Removes the rows of controllers that ended long ago and could not do it themselves.

    One that is ahead of the clock was written before the clock was set back. If its controller has ended, it would
    count as living when the clock reaches that time; if not, the controller stores it again at its next tick.
    """
    gone = or_(_C.seen_at < now - FORGOTTEN_AFTER, _C.seen_at > now + FUTURE_TOLERANCE)
    old = connection.scalars(select(_C.id).where(gone)).all()
    if old:  # a DELETE by time would lock the rows of the others, too
        connection.execute(delete(CONTROLLERS).where(_C.id.in_(old)))


@cache
def _records_and_time(dialect: str) -> Select[Any]:
    return _RECORDS.add_columns(database_time(dialect).label("now"))


def _record(row: Any) -> ControllerRecord:
    """Raises an error of BAD_VALUE for settings that no controller can have, as a faulty release might store them: they
    must neither stop the pulse of the others nor keep the expiries of all instances from being announced.
    """
    timeout, interval = (
        timedelta(seconds=seconds) for seconds in (row.heartbeat_timeout_secs, row.heartbeat_interval_secs)
    )
    if not (timedelta() < timeout <= MAX_SETTING and timedelta() < interval <= MAX_SETTING):
        raise ValueError("its settings make no sense")
    if None in (row.id, row.version, row.address, row.started_at, row.seen_at):
        raise ValueError("a column that must hold a value is NULL")
    return ControllerRecord(row.id, row.version, row.address, timeout, interval, row.started_at, row.seen_at)
