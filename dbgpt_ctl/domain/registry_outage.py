"""Whether the registry itself was away (rule 8). Pure: no I/O, time is an argument.

A registry that lives leaves a tick behind about every second, where its facts are: in memory, or in the database, where
any of several controllers may tick. A gap between two ticks is the evidence that nobody could store a beat then:
everything was stopped, frozen, or cut off from the database, or the clock stepped. After a gap, what was silent since
is held in its state for one timeout: workers get the time to beat again, and what was expired before the gap stays
expired. Without a gap silence is death.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dbgpt_ctl.domain.instance import FUTURE_TOLERANCE, InstanceState, ModelInstance, is_forgotten, state_of

TICK_SECS = 1.0
MAX_GAP = timedelta(seconds=5)
"""Ticks further apart than this were not just late: a busy machine, a slow commit."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The registry was away from `gone_at` to `back_at`; states are held until `until`."""

    gone_at: datetime
    back_at: datetime
    until: datetime

    def __str__(self) -> str:
        """One line for health and log."""
        gone_at, back_at, until = (
            each.isoformat(timespec="seconds") for each in (self.gone_at, self.back_at, self.until)
        )
        return f"the registry was away from {gone_at} to {back_at}: until {until} states are held as they were"

    def state_of(self, instance: ModelInstance, now: datetime, timeout: timedelta) -> InstanceState:
        """The state of one that has beaten since, as ever; that of any other, as it was when the registry went away."""
        since = self.back_at <= instance.last_heartbeat <= now + FUTURE_TOLERANCE
        return state_of(instance, now if since else self.gone_at, timeout)

    def is_forgotten(self, instance: ModelInstance, now: datetime, timeout: timedelta) -> bool:
        """A tombstone too is held: nobody could refuse a late beat while the registry was away."""
        touched = instance.refused_at or instance.deregistered_at
        return is_forgotten(instance, now if touched and touched >= self.back_at else self.gone_at, timeout)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last tick, and the last gap before it, if there ever was one."""

    ticked_at: datetime
    gone_at: datetime | None = None
    back_at: datetime | None = None

    def set_back(self, now: datetime) -> timedelta:
        """By how much the clock was set back since the last tick, else zero; another database host may have another.

        By so much a registry moves back the beats that are ahead of `now` (`moved_back`): their ages are as before
        then, and who dies now is not alive until the clock is there again.
        """
        step = self.ticked_at - now
        return step if step > FUTURE_TOLERANCE else timedelta()

    def ticked(self, now: datetime, timeout: timedelta) -> Pulse:
        """The pulse after a tick at `now`; it remembers a gap that ends so. A clock that was set back is followed.

        A gap that begins while states are held through another is one with it: who is held had no full timeout yet.
        """
        if step := self.set_back(now):
            return Pulse(now, moved_back(self.gone_at, now, step), moved_back(self.back_at, now, step))
        if now - self.ticked_at <= MAX_GAP:
            return replace(self, ticked_at=max(now, self.ticked_at))
        holding = self.back_at is not None and self.ticked_at < self.back_at + timeout
        return Pulse(ticked_at=now, gone_at=self.gone_at if holding else self.ticked_at, back_at=now)

    def hold(self, now: datetime, timeout: timedelta) -> Hold | None:
        """The hold at `now`, also when the gap ends only now and no tick has told of it yet."""
        if self.set_back(
            now
        ):  # beats ahead of `now` are judged by the clock that wrote them, until they are moved back
            return Hold(self.ticked_at, datetime.min.replace(tzinfo=UTC), now + timeout)
        pulse = self.ticked(now, timeout)
        if pulse.gone_at is None or pulse.back_at is None or now >= pulse.back_at + timeout:
            return None
        return Hold(pulse.gone_at, pulse.back_at, pulse.back_at + timeout)

    def expired_at(self, instance: ModelInstance, timeout: timedelta) -> datetime:
        """When the beat of one that is unhealthy now got too old: one whose state was held, when the hold ended."""
        at = instance.last_heartbeat + timeout
        if (
            self.gone_at is None
            or self.back_at is None
            or instance.last_heartbeat >= self.back_at
            or at <= self.gone_at
        ):
            return at
        return max(at, self.back_at + timeout)


def moved_back(time: datetime | None, now: datetime, step: timedelta) -> datetime | None:
    """A time that a clock wrote before it was set back by `step`."""
    return time - step if time is not None and time > now + FUTURE_TOLERANCE else time
