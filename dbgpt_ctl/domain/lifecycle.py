"""What stored facts mean at one moment, and what is to be told of a change then (rules 2 and 8). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import expired, is_overdue, settled
from dbgpt_ctl.domain.instance import InstanceState, is_forgotten, state_of

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.events import Cause, Change
    from dbgpt_ctl.domain.instance import ListedInstance, ModelInstance
    from dbgpt_ctl.domain.registry_outage import Pulse


class Moment:
    """The time, and with a pulse whether states are held."""

    def __init__(self, now: datetime, pulse: Pulse | None, timeout: timedelta) -> None:
        self.now = now
        self.hold = pulse.hold(now, timeout) if pulse else None
        self._pulse = pulse
        self._timeout = timeout

    @property
    def expires_before(self) -> datetime:
        """Only beats before that time can be too old."""
        return (min(self.now, self.hold.gone_at) if self.hold else self.now) - self._timeout

    def state_of(self, instance: ModelInstance) -> InstanceState:
        """The state now, or as it is held."""
        return (self.hold.state_of if self.hold else state_of)(instance, self.now, self._timeout)

    def held_until(self, entry: ListedInstance) -> datetime | None:
        """The end of the hold, if the entry counts as alive only because of it; else None."""
        if self.hold is None or not entry.beats:
            return None
        expired = state_of(entry.instance, self.now, self._timeout) is InstanceState.UNHEALTHY
        return self.hold.until if expired else None

    def is_forgotten(self, instance: ModelInstance) -> bool:
        """Whether it is a tombstone that has done its duty."""
        return (self.hold.is_forgotten if self.hold else is_forgotten)(instance, self.now, self._timeout)

    def is_overdue(self, instance: ModelInstance) -> bool:
        """Whether its expiry is still to be told."""
        return is_overdue(instance, self.state_of(instance))

    def expires_at(self, instance: ModelInstance) -> datetime:
        """When its beat is too old: with `timeout`, or where its state was held, when that ends."""
        if self._pulse is None:
            return instance.last_heartbeat + self._timeout
        return self._pulse.ticked(self.now, self._timeout).expired_at(instance, self._timeout)

    def expire(self, instance: ModelInstance) -> tuple[ModelInstance, list[Change]]:
        """The instance after its expiry was told, if that was still to be."""
        if not self.is_overdue(instance):
            return instance, []
        told, change = expired(instance, self.expires_at(instance))
        return told, [change]

    def settle(
        self, before: ModelInstance | None, after: ModelInstance | None, cause: Cause
    ) -> tuple[ModelInstance | None, list[Change]]:
        """The facts `after` a call as announced, and what there is to tell of it. `after` None: it is forgotten."""
        state = InstanceState.DEREGISTERED if after is None else self.state_of(after)
        return settled(before, after, state, self.now, cause)
