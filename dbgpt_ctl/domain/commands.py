"""The commands that change an instance, one class each. Pure: no I/O, time is an argument.

`key` is the instance that a command changes, `cause` is what an event about it reports. `apply` takes the stored facts
(None: no such instance) and the time; it returns the new facts (None: nothing to store) and the answer to the caller.

Every registry that applies the rules itself uses these: the embedded one command by command, a database in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dbgpt_ctl.domain.events import OPERATOR, WORKER, Actor, Cause
from dbgpt_ctl.domain.instance import ModelInstance

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.domain.instance import InstanceKey, Registration

Result = tuple[ModelInstance | None, bool]
"""The new facts and the answer."""


class _Command:
    """What all commands have. The name of a class is its verb."""

    __slots__ = ()
    actor: Actor
    reason: str | None = None

    @property
    def cause(self) -> Cause:
        return Cause(type(self).__name__.lower(), self.actor, self.reason)


@dataclass(frozen=True, slots=True)
class Register(_Command):
    """A register; its answer is True."""

    sent: Registration
    actor: Actor = WORKER

    @property
    def key(self) -> InstanceKey:
        return self.sent.key

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        return (ModelInstance.first(self.sent, now) if stored is None else stored.registered(self.sent, now)), True


@dataclass(frozen=True, slots=True)
class Heartbeat(_Command):
    """A heartbeat; its answer is False when it is refused, because it is late: it comes after a deregister (rule 4)."""

    sent: Registration
    actor: Actor = WORKER

    @property
    def key(self) -> InstanceKey:
        return self.sent.key

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        after = ModelInstance.first(self.sent, now) if stored is None else stored.with_heartbeat(now)
        return after, after.deregistered_at is None


@dataclass(frozen=True, slots=True)
class Deregister(_Command):
    """A deregister; its answer is False when there never was such an instance."""

    key: InstanceKey
    remove: bool = False
    actor: Actor = WORKER

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        return (None, False) if stored is None else (stored.deregistered(now, remove=self.remove), True)


@dataclass(frozen=True, slots=True)
class Drain(_Command):
    """A drain; its answer is False when the instance is in no list."""

    key: InstanceKey
    reason: str | None = None
    actor: Actor = OPERATOR

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:
        if stored is None or stored.removed:
            return None, False
        return stored.drained(now, by=self.actor.address, reason=self.reason), True


@dataclass(frozen=True, slots=True)
class Undrain(_Command):
    """The end of a drain; its answer is False when the instance is in no list."""

    key: InstanceKey
    actor: Actor = OPERATOR

    def apply(self, stored: ModelInstance | None, now: datetime) -> Result:  # noqa: ARG002 - as in the others
        return (None, False) if stored is None or stored.removed else (stored.undrained(), True)


Command = Register | Heartbeat | Deregister | Drain | Undrain
