"""The time of a registry in a database, and its pulse: one row that any controller renews every second (rule 8), and a
row for each outage that a gap in it showed.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE
from dbgpt_ctl.domain.lifecycle import Evaluation
from dbgpt_ctl.domain.registry_outage import TICK_SECS, Outage, Pulse, remember
from dbgpt_ctl.registry.contract import Lookup
from dbgpt_ctl.registry.database.tables.instances import database_time, move_heartbeats_back, time_of
from dbgpt_ctl.registry.database.tables.schema import OUTAGES, PULSE
from dbgpt_ctl.registry.database.tables.unreadable import BAD_VALUE, read_rows

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Select

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.instance import ModelInstance
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow

log = logging.getLogger(__name__)

_FRESH = timedelta(seconds=TICK_SECS * 0.9)
"""A tick of another controller that is younger serves for all controllers."""
_CLOCK_TOLERANCE = timedelta(seconds=2)

_PULSE = select(PULSE.c.ticked_at, PULSE.c.gone_at, PULSE.c.back_at).where(PULSE.c.id == 1)
_OUTAGES = select(OUTAGES.c.gone_at, OUTAGES.c.back_at)


@dataclass(slots=True)
class RegistryTime:
    """Where a registry takes the time from, and how it evaluates facts at that time.

    `clock` None means the database's (rule 7). With `watch_absence` states are held after a gap in the pulse (rule 8).
    """

    clock: Clock | None
    timeout: timedelta
    """The heartbeat timeout of this controller: lists and lookups show states by it."""
    watch_absence: bool = False
    host_clock: Clock = field(default_factory=SystemClock)
    announcing_timeout: timedelta = field(init=False)
    """The heartbeat timeout after which expiries are announced, the same for all controllers (see `controllers`)."""
    differing_timeouts_secs: tuple[float, ...] = ()
    """As in a `Listing`."""
    outages: tuple[Outage, ...] = ()
    """As of the last tick."""
    clock_offset_secs: float | None = field(init=False)
    """The database's time minus the time of this machine, as of the last tick, also while the database is unavailable;
    None before the first tick. 0.0 with a `clock`, which is of this machine.
    """

    def __post_init__(self) -> None:
        self.announcing_timeout = self.timeout
        self.clock_offset_secs = None if self.clock is None else 0.0

    def now_and_pulse(self, connection: Connection) -> tuple[datetime, Pulse | None]:
        """The time and, where absence is watched, the pulse, in one round trip."""
        if self.watch_absence:
            return read_pulse(connection, self.clock)
        return time_of(connection, self.clock), None

    def evaluation(self, connection: Connection) -> Evaluation:
        """The evaluation of facts now, by this controller's heartbeat timeout."""
        return Evaluation(*self.now_and_pulse(connection), self.timeout)

    def announcing(self, connection: Connection) -> Evaluation:
        """The evaluation of facts now for what is announced and stored, in which all controllers have to agree."""
        return Evaluation(*self.now_and_pulse(connection), self.announcing_timeout)

    def lookup(self, instance: ModelInstance, evaluation: Evaluation) -> Lookup:
        """The instance as the registry returns it."""
        evaluation = evaluation.with_timeout(self.timeout)
        entry = evaluation.listed(instance)
        time, held_until = self.reported(evaluation.now), evaluation.held_until(entry)
        return Lookup(entry, time, held_until, self.differing_timeouts_secs)

    def tick(self, connection: Connection) -> bool:
        """Renews the pulse unless another controller has just done so; returns whether this one did. Of several ticks
        at the same time one is stored, and each of them would be right. The outage that a tick ends is stored with it,
        or with the next one if a release without `ctl_outage` stored that tick.
        """
        asked_at = self.host_clock.now()
        now, pulse = read_pulse(connection, self.clock)
        if self.clock is None:  # the database took its time about in the middle of the round trip
            self.clock_offset_secs = (now - (asked_at + (self.host_clock.now() - asked_at) / 2)).total_seconds()
        if pulse is None:
            return _begin(connection, now)
        ticked, is_fresh = pulse, timedelta() <= now - pulse.ticked_at < _FRESH
        if not is_fresh:
            ticked = pulse.ticked(now, self.announcing_timeout)
            unchanged = (PULSE.c.id == 1) & (PULSE.c.ticked_at == pulse.ticked_at)
            if connection.execute(update(PULSE).where(unchanged).values(asdict(ticked))).rowcount != 1:
                return False
            if step := pulse.set_back(now):
                move_heartbeats_back(connection, now, step)
        self.outages = store_outage(connection, ticked.outage, now)
        return not is_fresh

    def reported_in_outage(self) -> datetime | None:
        """As `reported`, from this host's clock and the last offset, to the second: equal for all calls within one."""
        time = self.reported(self.host_clock.now() + timedelta(seconds=self.clock_offset_secs or 0.0))
        return None if time is None else time.replace(microsecond=0)

    def reported(self, now: datetime) -> datetime | None:
        """`now` where it is the database's time and this host's clock would show other ages; else None."""
        if self.clock is None and abs(now - self.host_clock.now()) > _CLOCK_TOLERANCE:
            return now
        return None


def _begin(connection: Connection, now: datetime) -> bool:
    """Stores the first tick ever, or in place of a row that cannot be read; returns whether this controller did."""
    anew = {"ticked_at": now, "gone_at": None, "back_at": None, "swept_at": None}
    if connection.execute(update(PULSE).where(PULSE.c.id == 1).values(anew)).rowcount:
        log.warning("the row of %s could not be read and is written anew", PULSE.name)
        return True
    try:
        with connection.begin_nested():
            connection.execute(insert(PULSE).values(id=1, ticked_at=now))
    except IntegrityError:
        return False
    return True


def read_pulse(connection: Connection, clock: Clock | None) -> tuple[datetime, Pulse | None]:
    """The time (rule 7) and the pulse, in one round trip; None before the first tick ever, and while the row cannot be
    read: the next tick writes it anew.
    """
    query = _pulse_and_time(connection.dialect.name) if clock is None else _PULSE
    try:
        row = connection.execute(query).one_or_none()
    except BAD_VALUE:
        row = None
    if row is None or row[0] is None:
        return time_of(connection, clock), None
    return (row[3] if clock is None else clock.now()), Pulse(*row[:3])


def store_outage(connection: Connection, last: Outage | None, now: datetime) -> tuple[Outage, ...]:
    """Stores the last outage unless it is stored, and forgets the old ones. Returns those that are stored then."""
    found = set(read_outages(connection))
    kept = remember(found, last, now)
    if gone := found.difference(kept):
        connection.execute(delete(OUTAGES).where(OUTAGES.c.gone_at.in_([outage.gone_at for outage in gone])))
    for outage in set(kept) - found:
        try:
            with connection.begin_nested():
                connection.execute(insert(OUTAGES).values(outage._asdict()))
        except IntegrityError:
            pass  # another controller stores it, too
    return kept


def read_outages(connection: Connection, unreadable: list[UnreadableRow] | None = None) -> list[Outage]:
    """Rows that cannot be read are left out, and appended to `unreadable`."""
    return read_rows(connection, _OUTAGES, _outage, unreadable)


def _outage(row: Any) -> Outage:
    if None in row:
        raise ValueError("a column that must hold a value is NULL")
    return Outage(*row)


@cache
def _pulse_and_time(dialect: str) -> Select[Any]:
    return _PULSE.add_columns(database_time(dialect))


def claim_sweep(connection: Connection, now: datetime, every: timedelta) -> bool:
    """Whether this controller is to sweep now: of all that share the database, one gets True per `every`."""
    swept_at = PULSE.c.swept_at  # in the future: a clock that was ahead, or a value that is no time
    due = (PULSE.c.id == 1) & (swept_at.is_(None) | (swept_at <= now - every) | (swept_at > now + FUTURE_TOLERANCE))
    return connection.execute(update(PULSE).where(due).values(swept_at=now)).rowcount == 1
