"""The outages of the registry itself, and how states are held after one (rule 8). Pure: no I/O, time is an argument.

While a registry works, it writes a tick about every second into its storage: into memory, or into the database, where
any of several controllers writes it. A gap between two ticks shows that nobody could store a heartbeat then: everything
was stopped, frozen or cut off from the database, or the clock stepped. After a gap the state of each instance that has
been silent since is held for one heartbeat timeout: workers get the time to send a heartbeat again, and an instance
that had expired before the gap stays expired. Without a gap a silent instance expires.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dbgpt_ctl.domain.instance import ModelInstance

TICK_SECS = 1.0
MAX_GAP = timedelta(seconds=5)
"""Ticks further apart than this are a gap; closer ones were late because of a busy machine or a slow commit."""
OUTAGES_KEPT_FOR = timedelta(days=30)
MAX_OUTAGES = 100
"""A registry remembers the newest outages that ended within that time."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The registry was away from `gone_at` to `back_at`; states are held until `until`."""

    gone_at: datetime
    back_at: datetime
    until: datetime

    def __str__(self) -> str:
        """One line for health and log."""
        gone_at, back_at, until = (
            time.isoformat(timespec="seconds") for time in (self.gone_at, self.back_at, self.until)
        )
        return f"the registry was away from {gone_at} to {back_at}: until {until} states are held as they were"

    @property
    def nothing_removed(self) -> str:
        """One line for those who would remove instances."""
        return f"the registry itself was away: nothing is removed until {self.until:%Y-%m-%d %H:%M:%S} UTC"

    def time_for(self, heartbeat: datetime, now: datetime) -> datetime:
        """The time at which to evaluate a state: `now` if the last heartbeat came after the outage, else its begin."""
        return now if self.back_at <= heartbeat <= now + FUTURE_TOLERANCE else self.gone_at


class Outage(NamedTuple):
    """A gap between two ticks. While states are held after it, it may grow: `gone_at` stays, `back_at` moves."""

    gone_at: datetime
    back_at: datetime

    def hold(self, timeout: timedelta) -> Hold:
        """The hold after it."""
        return Hold(self.gone_at, self.back_at, self.back_at + timeout)


def remember(outages: Iterable[Outage], last: Outage | None, now: datetime) -> tuple[Outage, ...]:
    """The outages to remember at `now`, the newest last: `last` too, and in place of the same one before it grew.

    Those that a clock wrote that was ahead are left out. After such a clock was set back, the pulse has the last one
    with its right times.
    """
    by_begin = {outage.gone_at: outage for outage in (*outages, *filter(None, (last,)))}
    kept = (each for each in by_begin.values() if now - OUTAGES_KEPT_FOR <= each.back_at <= now + FUTURE_TOLERANCE)
    return tuple(sorted(kept)[-MAX_OUTAGES:])


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last tick, and the last gap before it, if there was one."""

    ticked_at: datetime
    gone_at: datetime | None = None
    back_at: datetime | None = None

    @property
    def outage(self) -> Outage | None:
        """The last gap."""
        return None if self.gone_at is None or self.back_at is None else Outage(self.gone_at, self.back_at)

    def set_back(self, now: datetime) -> timedelta:
        """How far the clock was set back since the last tick, else zero; another database host may have another clock.

        A registry moves heartbeats that are ahead of `now` back by that step (`moved_back`). So their ages stay as they
        were, and a worker that dies now does not stay alive until the clock has caught up.
        """
        step = self.ticked_at - now
        return step if step > FUTURE_TOLERANCE else timedelta()

    def ticked(self, now: datetime, timeout: timedelta) -> Pulse:
        """The pulse after a tick at `now`, which may end a gap. It follows a clock that was set back.

        A gap that begins while states are still held continues the gap before it: a held instance has not had a full
        timeout yet.
        """
        if step := self.set_back(now):
            return Pulse(now, moved_back(self.gone_at, now, step), moved_back(self.back_at, now, step))
        if now - self.ticked_at <= MAX_GAP:
            return replace(self, ticked_at=max(now, self.ticked_at))
        holding = self.back_at is not None and self.ticked_at < self.back_at + timeout
        return Pulse(ticked_at=now, gone_at=self.gone_at if holding else self.ticked_at, back_at=now)

    def hold(self, now: datetime, timeout: timedelta) -> Hold | None:
        """The hold at `now`, also when the gap ends only now and no tick has recorded it yet."""
        if self.set_back(now):
            # Until heartbeats ahead of `now` are moved back, they are evaluated by the clock that wrote them.
            return Hold(self.ticked_at, datetime.min.replace(tzinfo=UTC), now + timeout)
        outage = self.ticked(now, timeout).outage
        hold = None if outage is None else outage.hold(timeout)
        return None if hold is None or now >= hold.until else hold

    def expired_at(self, instance: ModelInstance, timeout: timedelta) -> datetime:
        """The time at which the heartbeat of an unhealthy instance got too old; of a held one, the end of the hold."""
        at = instance.last_heartbeat + timeout
        if self.gone_at is None or self.back_at is None or at <= self.gone_at:
            return at
        return max(at, self.back_at + timeout)


def moved_back(time: datetime | None, now: datetime, step: timedelta) -> datetime | None:
    """The time, corrected if the clock wrote it before it was set back by `step`."""
    return time - step if time is not None and time > now + FUTURE_TOLERANCE else time
