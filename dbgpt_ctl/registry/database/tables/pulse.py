"""The pulse of a registry in a database: one row that any of its controllers renews about every second (rule 8)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from dbgpt_ctl.domain.lifecycle import Evaluation
from dbgpt_ctl.domain.registry_outage import TICK_SECS, Pulse
from dbgpt_ctl.registry.database.schema import PULSE
from dbgpt_ctl.registry.database.tables.instances import DATABASE_TIME, move_beats_back, time_of

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock

__all__ = ["claim_sweep", "moment_of", "read_pulse", "tick"]

_FRESH = timedelta(seconds=TICK_SECS * 0.9)
"""A tick of another controller that is no older serves for all."""

_PULSE = select(PULSE.c.ticked_at, PULSE.c.gone_at, PULSE.c.back_at).where(PULSE.c.id == 1)
_PULSE_AND_TIME = _PULSE.add_columns(DATABASE_TIME)


def read_pulse(connection: Connection, clock: Clock | None) -> tuple[datetime, Pulse | None]:
    """The time (rule 7) and the pulse, in one round trip; None before the first tick ever."""
    row = connection.execute(_PULSE_AND_TIME if clock is None else _PULSE).one_or_none()
    if row is None:
        return time_of(connection, clock), None
    return (row[3] if clock is None else clock.now()), Pulse(*row[:3])


def moment_of(connection: Connection, clock: Clock | None, timeout: timedelta, *, watch_absence: bool) -> Evaluation:
    """The moment, by the pulse where absence is watched, in one round trip."""
    now, pulse = read_pulse(connection, clock) if watch_absence else (time_of(connection, clock), None)
    return Evaluation(now, pulse, timeout)


def tick(connection: Connection, clock: Clock | None, timeout: timedelta) -> bool:
    """Renews the pulse unless another controller just did; tells whether it was this one. Of several at once one wins;
    all are right.
    """
    now, pulse = read_pulse(connection, clock)
    if pulse is None:
        pulse = Pulse(now)
        try:
            with connection.begin_nested():
                connection.execute(insert(PULSE).values(id=1, ticked_at=now))
        except IntegrityError:
            return False
        return True
    if timedelta() <= now - pulse.ticked_at < _FRESH:
        return False
    ticked = pulse.ticked(now, timeout)
    seen = (PULSE.c.id == 1) & (PULSE.c.ticked_at == pulse.ticked_at)
    values = {"ticked_at": ticked.ticked_at, "gone_at": ticked.gone_at, "back_at": ticked.back_at}
    won = connection.execute(update(PULSE).where(seen).values(values)).rowcount == 1
    if won and (step := pulse.set_back(now)):
        move_beats_back(connection, now, step)
    return won


def claim_sweep(connection: Connection, now: datetime, every: timedelta) -> bool:
    """Whether this controller is to clean up now: of all that share the database, one is told so per `every`."""
    due = (PULSE.c.id == 1) & (PULSE.c.swept_at.is_(None) | (PULSE.c.swept_at <= now - every))
    return connection.execute(update(PULSE).where(due).values(swept_at=now)).rowcount == 1
