"""The calls that change an instance, as one rule each: what is stored and the time -> new facts and the answer. Pure.

Every home of instances that applies the rules itself applies these: in memory one by one, in a database by batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import OPERATOR, WORKER, Actor, Cause
from dbgpt_ctl.domain.instance import ModelInstance

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey, Registration

__all__ = ["Beat", "Call", "Deregister", "Drain", "Register", "Undrain"]


@dataclass(frozen=True, slots=True)
class Register:
    """A register; its answer is True."""

    sent: Registration
    actor: Actor = WORKER

    @property
    def key(self) -> InstanceKey:
        return self.sent.key

    @property
    def cause(self) -> Cause:
        return Cause("register", self.actor)

    def apply(self, stored: ModelInstance | None, now: datetime) -> tuple[ModelInstance | None, bool]:
        return (ModelInstance.first(self.sent, now) if stored is None else stored.registered(self.sent, now)), True


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat; its answer is False when it is refused."""

    sent: Registration
    actor: Actor = WORKER

    @property
    def key(self) -> InstanceKey:
        return self.sent.key

    @property
    def cause(self) -> Cause:
        return Cause("heartbeat", self.actor)

    def apply(self, stored: ModelInstance | None, now: datetime) -> tuple[ModelInstance | None, bool]:
        beaten = ModelInstance.first(self.sent, now) if stored is None else stored.beaten(now)
        return beaten, beaten.deregistered_at is None


@dataclass(frozen=True, slots=True)
class Deregister:
    """A deregister; its answer is False when the instance never was."""

    key: InstanceKey
    remove: bool = False
    actor: Actor = WORKER

    @property
    def cause(self) -> Cause:
        return Cause("deregister", self.actor)

    def apply(self, stored: ModelInstance | None, now: datetime) -> tuple[ModelInstance | None, bool]:
        return (None, False) if stored is None else (stored.deregistered(now, remove=self.remove), True)


@dataclass(frozen=True, slots=True)
class Drain:
    """A drain; its answer is False when the instance is in no list."""

    key: InstanceKey
    reason: str | None = None
    actor: Actor = OPERATOR

    @property
    def cause(self) -> Cause:
        return Cause("drain", self.actor, self.reason)

    def apply(self, stored: ModelInstance | None, now: datetime) -> tuple[ModelInstance | None, bool]:
        if stored is None or stored.removed:
            return None, False
        return stored.drained(now, by=self.actor.address, reason=self.reason), True


@dataclass(frozen=True, slots=True)
class Undrain:
    """The end of a drain; its answer is False when the instance is in no list."""

    key: InstanceKey
    actor: Actor = OPERATOR

    @property
    def cause(self) -> Cause:
        return Cause("undrain", self.actor)

    def apply(self, stored: ModelInstance | None, now: datetime) -> tuple[ModelInstance | None, bool]:  # noqa: ARG002
        return (None, False) if stored is None or stored.removed else (stored.undrained(), True)


Call = Register | Beat | Deregister | Drain | Undrain
"""`apply`: the facts after it, None for none, and the answer; `cause`: what an event of it tells."""
