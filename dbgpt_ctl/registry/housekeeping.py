"""Removes from a database what has long been gone; of several controllers, one at a time."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from dbgpt_ctl.instance import is_long_gone
from dbgpt_ctl.registry.rows import IDENTITY, delete_rows, key_of, locked_rows
from dbgpt_ctl.registry.schema import INSTANCES
from dbgpt_ctl.registry.ticks import claim_sweep, read_pulse

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from dbgpt_ctl.clock import Clock

__all__ = ["SWEEP_EVERY", "sweep"]

log = logging.getLogger(__name__)

SWEEP_EVERY = timedelta(minutes=10)
MAX_SWEPT = 500
"""Rows that one transaction removes: more would keep beats waiting. The next sweep takes the rest."""


def sweep(connection: Connection, clock: Clock | None, remove_after: timedelta, timeout: timedelta) -> int:
    """Removes what has been unhealthy or deregistered for longer than `remove_after`, and tells how many.

    Never what an operator drained: that would undo the drain. Nothing while states are held (rule 8), and nothing when
    another controller did it a short while ago.
    """
    now, pulse = read_pulse(connection, clock)
    if pulse is None or pulse.hold(now, timeout) is not None or not claim_sweep(connection, now, SWEEP_EVERY):
        return 0
    before = now - remove_after
    column = INSTANCES.c
    gone = or_(
        and_(column.deregistered_at < before, or_(column.enabled, column.removed)),
        and_(column.deregistered_at.is_(None), column.last_heartbeat < before, column.check_healthy, column.enabled),
    )
    keys = [key_of(row) for row in connection.execute(select(*IDENTITY).where(gone).limit(MAX_SWEPT))]
    # Some may have come back since; what is locked does not.
    done = [each.key for each in locked_rows(connection, keys) if is_long_gone(each, before)] if keys else []
    if done:
        delete_rows(connection, done)
        log.info("%d instances removed that had been gone for %s", len(done), remove_after)
    return len(done)
