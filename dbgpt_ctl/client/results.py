"""What a call returns: the results, each read from a decoded answer. No I/O.

A result reads itself, from a decoded JSON object or from the `Answer` that holds it: its `read` raises one of MALFORMED
where that is not what the API sends. Unknown keys are ignored: a newer controller may send more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from dbgpt_ctl.domain.controllers import ControllerCondition
from dbgpt_ctl.domain.events import Actor, ActorKind, Cause, Change, Event, EventPage
from dbgpt_ctl.domain.fields import canonical_host
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.domain.texts import drained_text, state_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbgpt_ctl.failure_causes import FailureCause
    from dbgpt_ctl.wire.status import ModelCounts


MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What a reader raises for a decoded body that is not what the API sends."""
_LARGEST_COUNT = 2**63
WatchedKind: TypeAlias = Literal["ready", "change", "reset", "dropped", "leaving"]


class Answer(NamedTuple):
    """The decoded body of a 200 of /api/v1, the registry's time, and the URL of the controller without secrets."""

    fields: Any
    time: datetime | None
    controller: str


_TIMES = ("last_heartbeat", "registered_at", "deregistered_at", "refused_at")
_AS_SENT = ("weight", "prompt_template")
_WIRE = (*InstanceKey._fields, *_AS_SENT, "check_healthy", "healthy", "enabled", "last_heartbeat")


@dataclass(slots=True)
class KnownInstance:
    """One instance with the facts that the controller reports. The values are not validated; times are aware.

    The first nine facts are the keys of DB-GPT's API, under its names. Only /api/v1 reports the others.
    """

    model_name: str
    host: str
    port: int
    weight: float = 1.0
    check_healthy: bool = True
    healthy: bool = False
    enabled: bool = True
    prompt_template: str | None = None
    last_heartbeat: datetime | None = None
    """None if no heartbeat ever came."""
    beat_is_local: bool = False
    """`last_heartbeat` came without an offset. DB-GPT's controller sends its own local time and does not report its
    time zone, so the time is read in this host's zone.
    """
    state: InstanceState = InstanceState.HEALTHY
    """As the controller derived it, or as far as the nine keys show it."""
    held: bool = False
    """It is healthy only because the registry itself was away: its own heartbeat is too old."""
    registered_at: datetime | None = None
    deregistered_at: datetime | None = None
    refused_at: datetime | None = None
    """The last heartbeat that was refused because it came after a deregister."""
    drain: DrainFacts | None = None
    """None: not drained. Without facts where only the nine keys show it."""
    flaps: int = 0
    """How often it expired since it was first registered."""
    removed: bool = False
    """It is in no list any more, and is remembered only to refuse late heartbeats."""
    object: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The API's own object."""
    time: datetime | None = field(default=None, compare=False)
    """The registry's time of the answer; ages count against it."""
    held_until: datetime | None = field(default=None, compare=False)
    """It counts as alive only because the registry itself was away; its worker has until this time to send a heartbeat.
    Reported where one instance is asked for; see `Inventory.held_until` for a list.
    """
    answered_by: str = field(default="", compare=False)
    """The URL of the controller, without secrets, where one instance is asked for."""
    heartbeat_timeouts_secs: tuple[float, ...] = field(default=(), compare=False)
    """Reported where one instance is asked for; see `Inventory` for a list."""
    disputed: bool = False
    """Its heartbeat is older than the heartbeat timeout of one controller and not than that of another one, so they
    give different states. Known of an instance of a list.
    """

    @classmethod
    def read(cls, fields: dict[str, Any], time: datetime | None = None) -> KnownInstance:
        """From an INSTANCE of /api/v1, or from the nine keys of DB-GPT's API: then the state is what they show."""
        healthy, enabled = fields.get("healthy") is True, fields.get("enabled") is not False
        facts: dict[str, Any] = {name: fields[name] for name in _AS_SENT if name in fields}
        facts |= {name: read_time(fields[name]) for name in _TIMES if name in fields}
        beat = facts.get("last_heartbeat") and datetime.fromisoformat(fields["last_heartbeat"])
        return cls(
            *read_key(fields),
            check_healthy=fields.get("check_healthy") is not False,
            healthy=healthy,
            enabled=enabled,
            beat_is_local=beat is not None and beat.tzinfo is None,
            state=InstanceState(fields.get("state", shown_state(healthy=healthy))),
            held=fields.get("held") is True,
            drain=None if enabled else read_drain(fields.get("drain")),
            **facts,
            flaps=read_count(fields.get("flaps")),
            removed=fields.get("removed") is True,
            object=fields,
            time=time,
        )

    @classmethod
    def read_wire(cls, fields: dict[str, Any], time: datetime | None = None) -> KnownInstance:
        """From the nine keys of DB-GPT's API alone. `object` has all keys that came."""
        known = cls.read({name: fields[name] for name in _WIRE if name in fields}, time)
        known.object = fields
        return known

    @classmethod
    def in_answer(cls, answer: Answer) -> KnownInstance:
        """From an answer that holds one `instance`."""
        known = cls.read(answer.fields["instance"], answer.time)
        known.held_until = read_time(answer.fields.get("held_until"))
        known.heartbeat_timeouts_secs = read_timeouts(answer.fields.get("heartbeat_timeouts_secs") or ())
        known.answered_by = answer.controller
        return known

    @property
    def key(self) -> InstanceKey:
        """As `read_key` reads it."""
        return InstanceKey(self.model_name, self.host, self.port)

    @property
    def routable(self) -> bool:
        """Whether it gets requests: healthy and not drained."""
        return self.state is InstanceState.HEALTHY and self.drain is None

    @property
    def is_unknown(self) -> bool:
        """Whether it is healthy in one view and unhealthy in another one (rule 14)."""
        return self.held or self.disputed


@dataclass(frozen=True)
class Inventory:
    """The instances that a controller lists.

    `complete` is False for DB-GPT's list: then only its nine keys are known, the other facts are None, and a
    deregistered instance shows as unhealthy.
    """

    objects: list[dict[str, Any]] = field(repr=False)
    """The API's own objects as they came, in their order."""
    complete: bool
    controller: str
    """The URL that answered, without secrets."""
    time: datetime | None
    """The registry's time of the answer (header X-Ctl-Time, else Date), aware; ages count against it."""
    stale_since: datetime | None = None
    """The answer may lack changes after this time: the registry's database was away (header X-Ctl-Stale-Since). Aware.
    """
    held_until: datetime | None = None
    """Some instances are listed as healthy only because the registry itself was away; their workers have until this
    time to send a heartbeat (header X-Ctl-Held-Until). Aware.
    """
    registry_time: datetime | None = None
    """`time` where the registry's clock is not the controller's own (header X-Ctl-Time); else None."""
    heartbeat_timeouts_secs: tuple[float, ...] = ()
    """Those of the controllers that share the registry, the shortest first, where they differ (header
    X-Ctl-Heartbeat-Timeouts); else empty.
    """

    @classmethod
    def read(cls, answer: Answer) -> Inventory:
        """From /api/v1/instances."""
        inventory = cls(
            answer.fields["instances"],
            complete=True,
            controller=answer.controller,
            time=answer.time,
            stale_since=read_time(answer.fields.get("stale_since")),
            held_until=read_time(answer.fields.get("held_until")),
            heartbeat_timeouts_secs=read_timeouts(answer.fields.get("heartbeat_timeouts_secs") or ()),
        )
        inventory.instances  # noqa: B018 - a malformed one is found here, and the next controller is tried
        return inventory

    @cached_property
    def instances(self) -> tuple[KnownInstance, ...]:
        """The objects, read; of an incomplete list only DB-GPT's nine keys, whatever else the server sends."""
        read = KnownInstance.read if self.complete else KnownInstance.read_wire
        instances = tuple(read(fields, self.time) for fields in self.objects)
        if self.heartbeat_timeouts_secs:
            for instance in instances:
                instance.disputed = self._is_disputed(instance)
        return instances

    def _is_disputed(self, instance: KnownInstance) -> bool:
        as_of = self.stale_since or self.time
        if as_of is None or instance.last_heartbeat is None or not instance.check_healthy:
            return False
        age = (as_of - instance.last_heartbeat).total_seconds()
        return (
            instance.state is not InstanceState.DEREGISTERED
            and self.heartbeat_timeouts_secs[0] < age <= self.heartbeat_timeouts_secs[-1]
        )


@dataclass(frozen=True, slots=True)
class Drained:
    """The instance after a drain, an undrain or a register that drains.

    `durable`: the drain outlives the controller's process.
    """

    instance: KnownInstance
    durable: bool

    @classmethod
    def read(cls, answer: Answer) -> Drained:
        """From /api/v1/register, /api/v1/drain and /api/v1/undrain."""
        return cls(KnownInstance.in_answer(answer), durable=bool(answer.fields["durable"]))


@dataclass(frozen=True, slots=True)
class EventReport(EventPage):
    """An answer to `events`. `objects` are the API's EVENTs, one for each of `events`."""

    objects: list[Mapping[str, Any]] = field(default_factory=list, repr=False, compare=False)
    is_filtered: bool = True
    """False: the controller is of release 0.1.0, which filters only the first 10,000 events."""

    @property
    def items(self) -> Iterable[tuple[Event, Mapping[str, Any]]]:
        """Each event with its object."""
        return zip(self.events, self.objects, strict=True)

    @classmethod
    def read(cls, answer: Answer) -> EventReport:
        """From /api/v1/events: one page."""
        fields = answer.fields
        events = tuple(map(read_event, fields["events"]))
        return cls(
            events,
            str(fields["stream"]),
            read_count(fields["last_id"]),
            missed=fields["missed"] is True,
            next_after=read_count(fields.get("next_after", events[-1].id if events else fields["last_id"])),
            complete_since=read_time(fields.get("complete_since")),
            operator_complete_since=read_time(fields.get("operator_complete_since")),
            objects=list(fields["events"]),
            is_filtered="next_after" in fields,
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """One message of a watch.

    `ready` comes first. `change` has an `event`. `reset`: changes are missing here, so list again. `dropped` (this
    reader is too slow) and `leaving` (the controller ends) are the last messages: watch again with the last `cursor`.
    """

    kind: WatchedKind
    cursor: str | None = None
    """The position to go on from; None where the message does not change it."""
    event: Event | None = None
    reason: str | None = None
    """One line, in a `reset`."""
    object: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The API's own object."""


class ControllerSetting(NamedTuple):
    """A setting of a controller. What its text says is of another machine."""

    value: Any
    origin: str
    """Where the value comes from: `flag --port`, `default` ..."""


def read_settings(answer: Answer) -> dict[str, ControllerSetting]:
    """By name, from /api/v1/settings."""
    settings = answer.fields["settings"]
    return {_text(each["name"]): ControllerSetting(each["value"], _text(each["origin"])) for each in settings}


@dataclass(frozen=True, slots=True)
class ControllerHealth:
    """One controller's answer to a health check, or its absence."""

    controller: str
    """Its URL, without secrets."""
    condition: ControllerCondition
    status: int | None
    """The HTTP status; None without an answer."""
    detail: str
    """One line: `ok`, or the reason of any other condition."""
    latency: float | None
    """Seconds; None without an answer."""
    cause: FailureCause | None = None
    """Why no controller answers; None where one does, or where the cause is not known."""

    @property
    def ok(self) -> bool:
        """Whether it serves: DB-GPT's clients use it."""
        return self.condition in {ControllerCondition.HEALTHY, ControllerCondition.DEGRADED}

    def __str__(self) -> str:
        """`ok`, or another condition with its reason."""
        return self.detail if self.condition is ControllerCondition.HEALTHY else f"{self.condition}: {self.detail}"


def read_timeouts(values: Iterable[Any]) -> tuple[float, ...]:
    """Heartbeat timeouts in seconds, the shortest first."""
    return tuple(sorted(map(float, values)))


def read_key(fields: Mapping[str, Any]) -> InstanceKey:
    """The three keys of an identity, not stripped. DB-GPT's own controller lists an IPv6 address as it was registered:
    here it is in its one form.
    """
    name, host, port = fields["model_name"], fields["host"], fields["port"]
    if not (isinstance(name, str) and isinstance(host, str) and isinstance(port, int)):
        raise ValueError("not an identity")  # noqa: TRY004 - callers treat every malformed answer alike
    return InstanceKey(name, canonical_host(host), port)


def read_keys(answer: Answer) -> list[InstanceKey]:
    """The identities of an answer's `instances`, in their order."""
    return list(map(read_key, answer.fields["instances"]))


def read_event(fields: Mapping[str, Any]) -> Event:
    """An EVENT of /api/v1. A state that this version does not know is kept as it is."""
    number, time = fields["id"], read_time(fields["time"])
    if not isinstance(number, int) or time is None:
        raise ValueError("not an event")
    drained = fields.get("drained") is True
    address, name, reason = (_text_or_none(fields.get(name)) for name in ("address", "actor_name", "reason"))
    cause = Cause(str(fields["verb"]), Actor(ActorKind(fields["actor"]), address, name), reason)
    change = Change(time.astimezone(UTC), read_key(fields), str(fields["old"]), str(fields["new"]), cause, drained)
    return Event(number, change)


def shown_state(*, healthy: bool) -> InstanceState:
    """The state that the nine keys show. A deregistered instance shows as unhealthy."""
    return InstanceState.HEALTHY if healthy else InstanceState.UNHEALTHY


def read_drain(fields: Mapping[str, Any] | None) -> DrainFacts:
    """The `drain` of an INSTANCE; None where only `enabled` shows that it is drained."""
    if fields is None:
        return DrainFacts()
    since, until = read_time(fields.get("since")), read_time(fields.get("until"))
    return DrainFacts(since, _text_or_none(fields.get("by")), _text_or_none(fields.get("reason")), until)


def read_count(value: Any) -> int:
    """A whole number; 0 for null. Raises ValueError also for one of so many digits that Python cannot print a sum."""
    count = int(value or 0)
    if abs(count) > _LARGEST_COUNT:
        raise ValueError("not a count")
    return count


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - one of MALFORMED, as every wrong value
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def read_time(value: Any) -> datetime | None:
    """A time in ISO 8601, aware. None for null and for any value that is not a time, or is at an end of the calendar,
    where it has no value in another zone.

    DB-GPT sends its host's local time without an offset; it is read in this host's zone, which is the likeliest one.
    """
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        if not MINYEAR < time.year < MAXYEAR:
            return None
        return time if time.tzinfo is not None else time.astimezone()
    except (ValueError, OverflowError):
        return None


def state_text(instance: KnownInstance) -> str:
    """Its state, and whether it is drained or held."""
    return state_label(instance.state, drained=instance.drain is not None, held=instance.held)


def counted_text(counts: ModelCounts) -> str:
    """`3 healthy (1 drained), 2 unhealthy (2 drained); 1 held, 2 unchecked`: each state with its drained ones, and how
    many are healthy though nobody knows of their workers; empty for none.

    An instance counts in one state only, and so does its drain: the numbers in brackets add up to all drained ones.
    """
    drained = {
        InstanceState.HEALTHY: counts.healthy - counts.routable,
        InstanceState.UNHEALTHY: counts.unhealthy_drained,
        InstanceState.DEREGISTERED: counts.drained - counts.unhealthy_drained - counts.healthy + counts.routable,
    }
    states = ", ".join(
        f"{count} {state}{drained_text(drained[state])}" for state in InstanceState if (count := getattr(counts, state))
    )
    besides = ", ".join(f"{count} {name}" for name in ("held", "unchecked") if (count := getattr(counts, name)))
    return f"{states}; {besides}" if besides else states
