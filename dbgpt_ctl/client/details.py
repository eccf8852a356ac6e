"""What /api/v1 tells beyond DB-GPT's nine keys: whole facts, what happened, and how a controller is. No I/O.

Each `read` takes a decoded JSON object and raises ValueError, KeyError or TypeError where it is not what /api/v1 sends.
Keys that it does not know are left out: a newer controller may send more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from dbgpt_ctl.client.models import ReportedInstance, read_time
from dbgpt_ctl.domain.events import Actor, ActorKind, Cause, Change, Event, EventPage
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbgpt_ctl.client.models import InstanceList

WatchedKind: TypeAlias = Literal["ready", "change", "reset", "dropped", "leaving"]


@dataclass(slots=True)
class KnownInstance(ReportedInstance):
    """One instance with all its facts and its state, as the controller derived it. Times are aware, in UTC."""

    state: InstanceState = InstanceState.HEALTHY
    registered_at: datetime | None = None
    deregistered_at: datetime | None = None
    refused_at: datetime | None = None
    """The last beat that was refused because it came after a deregister."""
    drained_at: datetime | None = None
    drained_by: str | None = None
    drain_reason: str | None = None
    flaps: int = 0
    """How often it expired since it was registered first."""
    removed: bool = False
    """In no list any more, only remembered to refuse late beats."""
    object: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The API's own."""
    time: datetime | None = None
    """The registry's time of the answer: ages count against it."""

    @classmethod
    def read(cls, reported: dict[str, Any], time: datetime | None = None) -> KnownInstance:
        """From an INSTANCE of /api/v1, or from the nine keys of DB-GPT's API: then the state is what they show."""
        nine = ReportedInstance.read(reported)
        return cls(
            **{name: getattr(nine, name) for name in ReportedInstance.__dataclass_fields__},
            state=InstanceState(reported["state"]) if "state" in reported else nine.state,
            registered_at=read_time(reported.get("registered_at")),
            deregistered_at=read_time(reported.get("deregistered_at")),
            refused_at=read_time(reported.get("refused_at")),
            drained_at=read_time(reported.get("drained_at")),
            drained_by=reported.get("drained_by"),
            drain_reason=reported.get("drain_reason"),
            flaps=int(reported.get("flaps") or 0),
            removed=reported.get("removed") is True,
            object=reported,
            time=time,
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """The instances that a controller lists, with all facts that it reports.

    `complete` is False where the controller has no /api/v1: then only DB-GPT's nine keys are known, the other facts are
    None, and a deregistered instance shows as unhealthy.
    """

    instances: tuple[KnownInstance, ...] = field(repr=False)
    complete: bool
    controller: str
    """The URL that answered, without secrets."""
    time: datetime | None
    """The registry's time when it answered: ages count against it."""
    stale_since: datetime | None = None
    """From when on the answer may miss changes: its database was away."""
    held_until: datetime | None = None
    """Some are listed as alive only because the registry itself was away: until then they may beat again."""

    @classmethod
    def of_list(cls, answer: InstanceList, host: str | None = None) -> Inventory:
        """From DB-GPT's list; only the instances on `host`, if it is given."""
        instances = (KnownInstance.read(found, answer.date) for found in answer.objects)
        return cls(
            instances=tuple(found for found in instances if host in (None, found.host)),
            complete=False,
            controller=answer.controller,
            time=answer.date,
            stale_since=answer.stale_since,
            held_until=answer.held_until,
        )

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The API's own objects, in the order of `instances`."""
        return [found.object for found in self.instances]


InstanceReport = Inventory
"""The name that users of earlier releases import."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What came of a drain or its end. `durable`: it outlives the controller's process."""

    instance: KnownInstance
    durable: bool


@dataclass(frozen=True, slots=True)
class EventReport(EventPage):
    """An answer to `events`; `objects` are the API's EVENTs, one for each of `events`."""

    objects: list[dict[str, Any]] = field(default_factory=list, repr=False, compare=False)
    controller: str = ""
    """The URL that answered, without secrets."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One message of a watch.

    `ready` comes first. `change` holds an `event`. `reset`: changes are missing here, list again. `dropped` (this
    reader is too slow) and `leaving` (the controller ends) are the last: watch again with the last `cursor`.
    """

    kind: WatchedKind
    cursor: str | None = None
    """Where to go on from; None where the message says nothing new of that."""
    event: Event | None = None
    reason: str | None = None
    """Of a `reset`: one line."""
    object: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The API's own."""


@dataclass(frozen=True, slots=True)
class ModelCount:
    """How many instances of one model are in each state."""

    model_name: str
    healthy: int
    unhealthy: int
    drained: int
    deregistered: int


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """An answer to `status`. Times are aware."""

    controller: str
    """The URL that answered, without secrets."""
    object: dict[str, Any] = field(repr=False)
    """The API's own."""
    version: str
    """Of the controller's package."""
    time: datetime | None
    started_at: datetime | None
    leaving: bool
    kind: str
    """Of its registry: embedded, sqlite, mysql, mariadb or remote."""
    place: str | None
    durable: bool
    ready: bool
    reason: str | None
    heartbeat_interval_secs: float | None
    heartbeat_timeout_secs: float | None
    max_instances: int | None
    stale_since: datetime | None
    held_until: datetime | None
    models: tuple[ModelCount, ...]
    watchers: int
    last_event_id: int | None
    """Of the newest event; None while the registry cannot tell."""

    @classmethod
    def read(cls, told: dict[str, Any], controller: str) -> ControllerStatus:
        """From the object that /api/v1/status sends."""
        about, registry, settings = told["controller"], told["registry"], told["settings"]
        return cls(
            controller=controller,
            object=told,
            version=str(about["version"]),
            time=read_time(told.get("time")),
            started_at=read_time(about.get("started_at")),
            leaving=about.get("leaving") is True,
            kind=str(registry["kind"]),
            place=registry.get("place"),
            durable=registry.get("durable") is True,
            ready=registry.get("ready") is True,
            reason=registry.get("reason"),
            heartbeat_interval_secs=settings.get("heartbeat_interval_secs"),
            heartbeat_timeout_secs=settings.get("heartbeat_timeout_secs"),
            max_instances=settings.get("max_instances"),
            stale_since=read_time(told.get("stale_since")),
            held_until=read_time(told.get("held_until")),
            models=tuple(
                ModelCount(**{name: each[name] for name in ModelCount.__dataclass_fields__}) for each in told["models"]
            ),
            watchers=int(told.get("watchers") or 0),
            last_event_id=told.get("last_event_id"),
        )


def read_key(told: Mapping[str, Any]) -> InstanceKey:
    """The three keys of an identity, verbatim."""
    name, host, port = told["model_name"], told["host"], told["port"]
    if not (isinstance(name, str) and isinstance(host, str) and isinstance(port, int)):
        raise ValueError("no identity")  # noqa: TRY004 - what is no answer of /api/v1 is one kind of error
    return InstanceKey(name, host, port)


def read_event(told: Mapping[str, Any]) -> Event:
    """An EVENT of /api/v1. A state that this version does not know is kept as it is."""
    number, time = told["id"], read_time(told["time"])
    if not isinstance(number, int) or time is None:
        raise ValueError("no event")
    cause = Cause(str(told["verb"]), Actor(ActorKind(told["actor"]), told.get("address")), told.get("reason"))
    return Event(number, Change(time.astimezone(UTC), read_key(told), str(told["old"]), str(told["new"]), cause))
