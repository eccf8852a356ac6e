"""What was gathered of a cluster at one moment. No I/O; times are aware."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.cli.output.instances import age_of
from dbgpt_ctl.cli.parsing.references import ModelFilter, reference_to
from dbgpt_ctl.domain.instance import BEATING, InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from dbgpt_ctl.client.details import ControllerStatus
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import InstanceKey


class Knock(StrEnum):
    """What came of knocking at a worker's address."""

    WORKER = "worker"
    REFUSED = "refused"
    SILENT = "silent"
    OTHER = "other"
    """Something answers that is no DB-GPT worker."""
    FAILED = "failed"
    """No way there from here: an unknown name, no route."""


class Probe(NamedTuple):
    """`detail`: one line, for people."""

    knock: Knock
    detail: str


class Place(NamedTuple):
    """A host as it is registered, and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One instance as a controller lists it. What follows `beat_is_local` only /api/v1 tells."""

    key: InstanceKey
    state: InstanceState
    controller: str
    time: datetime
    """The registry's time when it was listed."""
    last_heartbeat: datetime | None = None
    checked: bool = True
    """Whether it can expire."""
    beat_is_local: bool = False
    """Nobody knows which time zone `last_heartbeat` is in."""
    is_known: bool = False
    """All facts are known, not only DB-GPT's nine keys."""
    registered_at: datetime | None = None
    deregistered_at: datetime | None = None
    refused_at: datetime | None = None
    drained_at: datetime | None = None
    drained_by: str | None = None
    drain_reason: str | None = None
    flaps: int = 0

    @property
    def reference(self) -> str:
        """Escaped."""
        return reference_to(self.key._asdict())

    @property
    def place(self) -> Place:
        """Where it says that it can be called."""
        return Place(self.key.host, self.key.port)

    @property
    def gets_requests(self) -> bool:
        """Whether it is in a list with `healthy_only`."""
        return self.state is InstanceState.HEALTHY

    @property
    def beats(self) -> bool:
        """Its beat is fresh, drained or not."""
        return self.state in BEATING

    def ago(self, moment: datetime | None) -> str:
        """`12s ago`, by the registry's clock; `never` for None."""
        return age_of(moment, self.time)


@dataclass(frozen=True, slots=True, eq=False)
class ControllerFacts:
    """One controller. Without an answer there is an `error`, one line."""

    url: str
    host: str
    error: str | None = None
    error_code: str | None = None
    is_there: bool = True
    """Something answers at its address, if only with an error."""
    time: datetime | None = None
    skew: timedelta | None = None
    """Its registry's clock minus this machine's, as far as is known; positive: it is ahead."""
    status: ControllerStatus | None = None
    """None for DB-GPT's own controller."""
    stale_since: datetime | None = None
    held_until: datetime | None = None
    seen: tuple[Seen, ...] = field(default=(), repr=False)

    @property
    def answers(self) -> bool:
        """Whether its list could be read."""
        return self.error is None

    @property
    def is_stock(self) -> bool:
        """It answers, and has no /api/v1."""
        return self.answers and self.status is None


class Proxied(NamedTuple):
    """A controller to which the environment's proxy would take DB-GPT's calls. No secrets."""

    controller: str
    host: str
    variable: str
    proxy: str


class OpenFile(NamedTuple):
    """A file with secrets that others than its owner may read."""

    path: str
    mode: int


@dataclass(frozen=True, eq=False)
class Facts:
    """All of it. `wanted` is empty where the whole cluster is asked for."""

    wanted: ModelFilter
    controllers: tuple[ControllerFacts, ...]
    models: frozenset[str] = frozenset()
    """Every NAME@TYPE that any controller has, whether wanted or not."""
    probes: Mapping[Place, Probe] = field(default_factory=dict)
    unprobed: int = 0
    """Addresses that were left out because there are too many."""
    proxies: tuple[Proxied, ...] = ()
    open_files: tuple[OpenFile, ...] = ()
    events: tuple[Event, ...] = ()
    """Of what is wanted and in no list any more."""

    @cached_property
    def answering(self) -> tuple[ControllerFacts, ...]:
        """The controllers whose lists could be read."""
        return tuple(each for each in self.controllers if each.answers)

    @cached_property
    def seen(self) -> tuple[Seen, ...]:
        """What is wanted, each instance once, as the first controller that lists it has it; in order of identity."""
        first: dict[InstanceKey, Seen] = {}
        for controller in self.answering:
            for each in controller.seen:
                if self.wanted.matches(each.key.model_name):
                    first.setdefault(each.key, each)
        return tuple(first[key] for key in sorted(first))

    @cached_property
    def by_model(self) -> Mapping[str, tuple[Seen, ...]]:
        """`seen`, by NAME@TYPE."""
        models: dict[str, list[Seen]] = {}
        for each in self.seen:
            models.setdefault(each.key.model_name, []).append(each)
        return {name: tuple(those) for name, those in models.items()}

    def probe_of(self, seen: Seen) -> Probe | None:
        """What came of knocking there; None where nobody did."""
        return self.probes.get(seen.place)

    def controller_of(self, seen: Seen) -> ControllerFacts:
        """The one that listed it."""
        return next(each for each in self.controllers if each.url == seen.controller)
