"""What an instance is, what a worker may say of it, and the rules of its life. Pure: no I/O, time is an argument.

    parse     strangers' values -> Registration / InstanceKey, or InvalidInstance
    evolve    ModelInstance.first, registered, beaten, deregistered, drained, undrained: facts -> new facts
    derive    state_of(facts, now, timeout), is_forgotten: facts -> what they mean now

Facts are stored, states never are (rule 2): a registry keeps `ModelInstance` and derives the rest when it is
asked. All times are aware and in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl.domain.fields import (
    parse_bool,
    parse_host,
    parse_model_name,
    parse_port,
    parse_prompt_template,
    parse_weight,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

FUTURE_TOLERANCE = timedelta(seconds=5)
"""A stored beat further ahead than this was written by a clock that is off (rule 7)."""


class InstanceState(StrEnum):
    """What the facts of an instance mean at one moment."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINED = "drained"
    DEREGISTERED = "deregistered"


class InstanceKey(NamedTuple):
    """The identity: compared exactly, no folding of case or accents (rule 1). Sorts in the order of every list."""

    model_name: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """The part of `model_name` before the `@`."""
        return self.model_name.partition("@")[0]

    @property
    def type(self) -> str:
        """The part of `model_name` after the `@`: llm, text2vec, reranker, service ..."""
        return self.model_name.partition("@")[2]

    def __str__(self) -> str:
        """The reference `NAME@TYPE/HOST:PORT`, which the CLI prints and takes. The host is verbatim: `[::1]` is not
        `::1`.
        """
        return f"{self.model_name}/{self.host}:{self.port}"

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> InstanceKey:
        """The key in a body or query; each field as in `Registration.parse`. Raises InvalidInstance."""
        return cls(
            parse_model_name(fields.get("model_name")), parse_host(fields.get("host")), parse_port(fields.get("port"))
        )


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker sends with a register or a heartbeat, checked and stripped."""

    key: InstanceKey
    weight: float = 1.0
    check_healthy: bool = True
    enabled: bool = True
    prompt_template: str | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> Registration:
        """Takes a decoded body or query, as leniently as DB-GPT does (docs/protocol.md); ignores keys it does not know.

        Raises InvalidInstance, which names the field.
        """
        return cls(
            key=InstanceKey.parse(fields),
            weight=parse_weight(fields.get("weight")),
            check_healthy=parse_bool("check_healthy", fields.get("check_healthy"), default=True),
            enabled=parse_bool("enabled", fields.get("enabled"), default=True),
            prompt_template=parse_prompt_template(fields.get("prompt_template")),
        )


@dataclass(frozen=True, slots=True)
class ModelInstance:
    """The stored facts of one instance. Immutable: each event makes a new one."""

    key: InstanceKey
    weight: float
    check_healthy: bool
    enabled: bool
    """False: an operator drained it."""
    prompt_template: str | None
    registered_at: datetime
    last_heartbeat: datetime
    deregistered_at: datetime | None = None
    refused_at: datetime | None = None
    """The last beat that was refused because it came after a deregister."""
    drained_at: datetime | None = None
    """None also for one that said so itself when it registered first."""
    drained_by: str | None = None
    """The address that the drain came from."""
    drain_reason: str | None = None
    announced_state: InstanceState = InstanceState.HEALTHY
    """The state that was told last (see `events`). Not a fact of the instance but of what the registry has told."""
    flaps: int = 0
    """How often it expired, told so far, since it was registered first."""
    removed: bool = False
    """A tombstone: in no list, only there to refuse late beats."""

    @classmethod
    def first(cls, sent: Registration, now: datetime) -> ModelInstance:
        """The first register or heartbeat: all facts as sent (rule 5)."""
        return cls(
            key=sent.key,
            weight=sent.weight,
            check_healthy=sent.check_healthy,
            enabled=sent.enabled,
            prompt_template=sent.prompt_template,
            registered_at=now,
            last_heartbeat=now,
            announced_state=InstanceState.HEALTHY if sent.enabled else InstanceState.DRAINED,
        )

    def registered(self, sent: Registration, now: datetime) -> ModelInstance:
        """A later register: weight, prompt template and beat; it revives, and a drain survives it (rules 4 and 5)."""
        if self.removed:
            return self.first(sent, now)
        return replace(
            self,
            weight=sent.weight,
            prompt_template=sent.prompt_template,
            last_heartbeat=self._later_beat(now),
            deregistered_at=None,
            refused_at=None,
        )

    def beaten(self, now: datetime) -> ModelInstance:
        """A heartbeat: no fact but the beat changes; after a deregister it is only noted as refused (rules 4 and 5)."""
        if self.deregistered_at is not None:
            return replace(self, refused_at=now)
        return ModelInstance(  # `replace` takes twice as long, and this is done for each beat
            self.key,
            self.weight,
            self.check_healthy,
            self.enabled,
            self.prompt_template,
            self.registered_at,
            self._later_beat(now),
            None,
            self.refused_at,
            self.drained_at,
            self.drained_by,
            self.drain_reason,
            self.announced_state,
            self.flaps,
            self.removed,
        )

    def deregistered(self, now: datetime, *, remove: bool) -> ModelInstance:
        """A deregister, or with `remove` a removal that leaves a tombstone. Repeating it keeps the first time."""
        return replace(self, deregistered_at=self.deregistered_at or now, removed=self.removed or remove)

    def drained(self, now: datetime, *, by: str | None, reason: str | None) -> ModelInstance:
        """A drain: it gets no requests until `undrained` (rules 3 and 5). Repeating it keeps the time, and the reason
        unless it gives another.
        """
        if not self.enabled and reason is None:
            return self
        at = now if self.enabled else self.drained_at
        return replace(self, enabled=False, drained_at=at, drained_by=by, drain_reason=reason)

    def undrained(self) -> ModelInstance:
        """The end of a drain."""
        if self.enabled:
            return self
        return replace(self, enabled=True, drained_at=None, drained_by=None, drain_reason=None)

    def _later_beat(self, now: datetime) -> datetime:
        """A beat never moves backwards, but for one that a clock ahead of all others wrote (rule 7)."""
        if self.last_heartbeat > now + FUTURE_TOLERANCE:
            return now
        return max(self.last_heartbeat, now)


class ListedInstance(NamedTuple):
    """An instance with its state at the moment of the list."""

    instance: ModelInstance
    state: InstanceState

    @property
    def beats(self) -> bool:
        """`healthy` on the wire: the beat is fresh and it is not deregistered, drained or not (rule 2)."""
        return self.state in BEATING


BEATING = frozenset({InstanceState.HEALTHY, InstanceState.DRAINED})


def state_of(instance: ModelInstance, now: datetime, timeout: timedelta) -> InstanceState:
    """The state at `now`. A beat exactly `timeout` old is still fresh; without `check_healthy` none gets old."""
    if instance.deregistered_at is not None:
        return InstanceState.DEREGISTERED
    if instance.check_healthy and now - instance.last_heartbeat > timeout:
        return InstanceState.UNHEALTHY
    return InstanceState.HEALTHY if instance.enabled else InstanceState.DRAINED


def is_long_gone(instance: ModelInstance, before: datetime) -> bool:
    """Whether it was unhealthy or deregistered before that time and nothing was heard of it since.

    Never one that an operator drained: to remove it would undo the drain.
    """
    if instance.deregistered_at is not None:
        last = instance.refused_at or instance.deregistered_at
        return last < before and (instance.enabled or instance.removed)
    return instance.last_heartbeat < before and instance.check_healthy and instance.enabled


def is_forgotten(instance: ModelInstance, now: datetime, timeout: timedelta) -> bool:
    """Whether a tombstone has done its duty: one timeout has passed since the removal and the last refused beat (rule
    4).
    """
    if not instance.removed or instance.deregistered_at is None:
        return False
    return now - max(instance.deregistered_at, instance.refused_at or instance.deregistered_at) > timeout


def bracketed(host: str) -> str:
    """The host as it stands before `:PORT`: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
