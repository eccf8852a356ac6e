"""One instance of a database as the registry returns it, and the time that goes with its state."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.domain.instance import ListedInstance
from dbgpt_ctl.registry.contract import Lookup

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.instance import ModelInstance
    from dbgpt_ctl.domain.lifecycle import Evaluation

CLOCK_TOLERANCE = timedelta(seconds=2)


def lookup(instance: ModelInstance, moment: Evaluation, clock: Clock | None) -> Lookup:
    """The instance with its state; `clock` None means the database's."""
    entry = ListedInstance(instance, moment.state_of(instance))
    return Lookup(entry, foreign_time(moment.now, clock), moment.held_until(entry))


def foreign_time(now: datetime, clock: Clock | None) -> datetime | None:
    """`now` where it is the database's time and this host's clock would show other ages; else None."""
    if clock is None and abs(now - SystemClock().now()) > CLOCK_TOLERANCE:
        return now
    return None
