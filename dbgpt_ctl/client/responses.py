"""What a controller's response means: the one place where HTTP becomes results and errors. No I/O.

200 with what the call expects              the result
401                                         AttemptFailed with NotAllowed: each controller has its own tokens
403                                         NotAllowed
/api/v1: 404 that names an instance         NotFound
/api/v1: other 404, 405, 501 not_supported  NotSupported: DB-GPT's own controller, or one that forwards to it
DB-GPT's endpoints: 404, 405 of no ctl      AttemptFailed: every controller has these, so no controller is there
any other 4xx                               ControllerRefused, with the reason that the controller gave
everything else, or no response             AttemptFailed: the next controller is tried (see `failover`)

A result reads itself, from a decoded JSON object or from the `Answer` that holds it: its `read` raises one of MALFORMED
where that is not what the API sends. Unknown keys are ignored: a newer controller may send more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar

from dbgpt_ctl.domain.controllers import ControllerCondition
from dbgpt_ctl.domain.events import Actor, ActorKind, Cause, Change, Event, EventPage
from dbgpt_ctl.domain.fields import canonical_host, printable
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.errors import (
    Attempt,
    ControllerLeaving,
    ControllerRefused,
    ErrorKind,
    FailureCause,
    ForeignOrigin,
    ForwardsToItself,
    HostNotAllowed,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    NotSupported,
    RegistryUnusable,
)
from dbgpt_ctl.settings.masking import mask_own_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dbgpt_ctl.settings.addresses import Address

T = TypeVar("T")
MAX_REASON_CHARS = 300
MAX_DEPTH = 32
"""Of lists and objects in each other. The API has five; much more could be read here, and not be printed."""
LONG_BYTES = 1_000_000
MAX_OBJECT_BYTES = 64 * 1024
"""Every answer that is longer than LONG_BYTES is a list of objects that have a `model_name`, or as tokens a `name`, and
are shorter than this.
"""
EVENT_STREAM = "text/event-stream"
HTML = "text/html"
_UNAVAILABLE = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_FULL = b"This controller "
"""How the text begins with which a controller refuses one connection too many."""
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError)
"""What a reader raises for a decoded body that is not what the API sends."""
_LARGEST_COUNT = 2**63
MAKE_TOKEN = "ctl token create NAME --role ROLE makes one"  # noqa: S105 - a command
GIVE_TOKEN = "set CTL_TOKEN, or the --token-file of a context"  # noqa: S105 - an advice
CHECK_TOKEN = "check the token: CTL_TOKEN, the token file of the context, or NAME:TOKEN@ in the address"  # noqa: S105
_OUT_OF_SCOPE = frozenset({"models", "hosts", "max-instances"})
"""The reasons of NotPermitted where the token has the role, and the controller says what it lacks."""
_ANSWERED: Mapping[FailureCause | None, ErrorKind] = {
    FailureCause.NOT_A_CONTROLLER: ErrorKind.NOT_A_CONTROLLER,
    FailureCause.ANSWER_TOO_LARGE: ErrorKind.FAILED,
}
"""The causes of a `NoResponse` where something answered."""
WatchedKind: TypeAlias = Literal["ready", "change", "reset", "dropped", "leaving"]


@dataclass(frozen=True)
class Response:
    """A complete HTTP response. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray

    def json(self) -> Any:
        """The decoded body; None if it is not JSON, or not of the API's form as far as `decoded` looks."""
        return self._decoded

    @cached_property
    def _decoded(self) -> Any:
        size = len(self.body)
        # Decoded, a long body of anything else takes many times its size.
        if size > LONG_BYTES and self.body.count(b'name"') * MAX_OBJECT_BYTES < size:
            return None
        return decoded(self.body)


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No complete HTTP response came."""

    detail: str
    cause: FailureCause | None = None


class AttemptFailed(Exception):
    """This controller could not serve the call. `kind` is NO_ANSWER, UNAVAILABLE, FAILED or NOT_A_CONTROLLER, or
    NOT_ALLOWED with a `refusal`. `may_pass`: whether UNAVAILABLE may end without a person.
    """

    def __init__(
        self,
        address: Address,
        detail: str,
        kind: ErrorKind,
        cause: FailureCause | None = None,
        refusal: NotAllowed | None = None,
        *,
        may_pass: bool = True,
    ) -> None:
        super().__init__(f"{address}: {detail}")
        self.may_pass = may_pass
        self.attempt = Attempt(str(address), detail, cause)
        self.kind = kind
        self.refusal = refusal


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
        known.heartbeat_timeouts_secs = _read_timeouts(answer.fields.get("heartbeat_timeouts_secs") or ())
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
            heartbeat_timeouts_secs=_read_timeouts(answer.fields.get("heartbeat_timeouts_secs") or ()),
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


def decoded(text: str | bytes | bytearray) -> Any:
    """The value of a JSON text; None if it is not JSON, or nested deeper than MAX_DEPTH."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if _is_deeper(value, MAX_DEPTH) else value


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in value if isinstance(item, dict | list))


def accept(outcome: Response | NoResponse, address: Address) -> Response:
    """The response if its status is exactly 200; else raises NotAllowed, ControllerRefused or AttemptFailed."""
    if isinstance(outcome, NoResponse):
        kind = _ANSWERED.get(outcome.cause, ErrorKind.NO_ANSWER)
        raise AttemptFailed(address, outcome.detail, kind, outcome.cause)
    status = outcome.status
    if status == HTTPStatus.OK:
        return outcome
    reason, code = explanation(outcome)
    detail = f"{status} {reason or _phrase(status)}"
    if status == HTTPStatus.UNAUTHORIZED:
        refusal = _refusal(outcome, address)
        raise AttemptFailed(address, refusal.detail, ErrorKind.NOT_ALLOWED, refusal=refusal)
    if status == HTTPStatus.FORBIDDEN:
        raise _refusal(outcome, address)
    if _is_unknown_path(outcome):
        raise not_a_controller(address, f"{status} {_phrase(status)}")
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        attempt = Attempt(str(address), detail, _cause_of(code))
        raise ControllerRefused(detail, controller=str(address), attempts=[attempt], problem_code=code)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _failed(outcome, address)
    raise not_a_controller(address, f"{status} {_phrase(status)}")


def _failed(response: Response, address: Address) -> AttemptFailed:
    """The failure for a 5xx."""
    if message := _message_of_proxy(response):
        return AttemptFailed(address, message, ErrorKind.UNAVAILABLE, FailureCause.GATEWAY)
    status, (reason, code) = response.status, explanation(response)
    kind = ErrorKind.UNAVAILABLE if status in _UNAVAILABLE else ErrorKind.FAILED
    detail, may_pass = f"{status} {reason or _phrase(status)}", code != RegistryUnusable.code
    return AttemptFailed(address, detail, kind, _cause_of(code), may_pass=may_pass)


def _refusal(response: Response, address: Address) -> NotAllowed:
    """The error for a 401 or 403. A controller of this package says itself what is wrong, and what to write where."""
    message, code = explanation(response)
    detail = f"{response.status} {message or _phrase(response.status)}"
    reason: str | None = None
    match code:
        case NotAuthenticated.code | NotPermitted.code:
            reason = str(response.json().get("reason"))
            advice = None if reason in _OUT_OF_SCOPE else MAKE_TOKEN
        case ForeignOrigin.code:
            advice = None
        case _ if address.credentials is None:
            advice = GIVE_TOKEN
        case _:
            detail, advice = f"{detail} (a token was sent)", CHECK_TOKEN
    return NotAllowed(detail, controller=str(address), advice=advice, problem_code=code, reason=reason)


def accept_v1(outcome: Response | NoResponse, address: Address, verb: str) -> Response:
    """As `accept`; also raises NotFound for an unknown instance, and NotSupported where there is no /api/v1/`verb`."""
    if isinstance(outcome, Response):
        reason, code = explanation(outcome)
        is_not_found = outcome.status == HTTPStatus.NOT_FOUND and code == NotFound.code
        if is_not_found and isinstance(outcome.json().get("instance_key"), dict):  # without it: an older ctl's path
            raise NotFound(reason or "the controller does not know it", controller=str(address))
        if outcome.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            detail = f"it has no /api/v1/{verb} because it is DB-GPT's own controller or an older ctl"
            raise NotSupported(detail, controller=str(address), problem_code=code)
        if outcome.status == HTTPStatus.NOT_IMPLEMENTED and code == NotSupported.code:
            raise NotSupported(reason or f"no {verb}", controller=str(address), problem_code=code)
    return accept(outcome, address)


def not_a_controller(address: Address, what: str) -> AttemptFailed:
    """An answer that no controller gives: a wrong address, a proxy's page, another server on its port."""
    detail = f"what answers there is not a DB-GPT controller ({what})"
    return AttemptFailed(address, detail, ErrorKind.NOT_A_CONTROLLER, FailureCause.NOT_A_CONTROLLER)


def read_verdict(outcome: Response | NoResponse, address: Address) -> bool:
    """`true` or `false`, as register, heartbeat and deregister answer."""
    verdict = _decoded(accept(outcome, address), address)
    if not isinstance(verdict, bool):
        raise not_a_controller(address, "200 without true or false")
    return verdict


def _read_timeouts(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(sorted(map(float, values)))


def read_list(outcome: Response | NoResponse, address: Address) -> Inventory:
    """A bare array of objects that have an identity. Their other keys are not checked."""
    response = accept(outcome, address)
    objects = _decoded(response, address)
    timeouts: tuple[float, ...] = ()
    try:
        is_list = isinstance(objects, list) and all(map(read_key, objects))
        if text := response.headers.get("x-ctl-heartbeat-timeouts"):
            timeouts = _read_timeouts(text.split(","))
    except MALFORMED:
        is_list = False
    if not is_list:
        raise not_a_controller(address, "200 without a list of instances")
    stale = response.headers.get("x-ctl-stale-since")
    return Inventory(
        objects,
        complete=False,
        controller=str(address),
        time=_time_of(response),
        registry_time=read_time(response.headers.get("x-ctl-time")),
        stale_since=read_time(stale) or _read_http_date(stale),
        held_until=read_time(response.headers.get("x-ctl-held-until")),
        heartbeat_timeouts_secs=timeouts,
    )


def read_health(outcome: Response | NoResponse, address: Address, *, latency: float) -> ControllerHealth:
    """Who answers with a status of exactly 200 and a JSON object that has a `status` serves; another body is another
    server's. DB-GPT's own controller never gives a reason.
    """
    url = str(address)
    if isinstance(outcome, NoResponse):
        return ControllerHealth(url, ControllerCondition.UNREACHABLE, None, outcome.detail, None, outcome.cause)
    status, health, (detail, code) = outcome.status, outcome.json(), explanation(outcome)
    if status == HTTPStatus.OK and isinstance(health, dict) and "status" in health:
        reason = health.get("reason")
        condition = ControllerCondition.DEGRADED if reason else ControllerCondition.HEALTHY
        return ControllerHealth(url, condition, status, one_line(str(reason or health["status"])), latency)
    if status < HTTPStatus.BAD_REQUEST or _is_unknown_path(outcome):
        _, detail, cause = not_a_controller(address, f"{status} {_phrase(status)}").attempt
        return ControllerHealth(url, ControllerCondition.UNREACHABLE, status, detail, latency, cause)
    if message := _message_of_proxy(outcome):
        return ControllerHealth(url, ControllerCondition.UNREACHABLE, status, message, latency, FailureCause.GATEWAY)
    condition = ControllerCondition.LEAVING if code == ControllerLeaving.code else ControllerCondition.UNHEALTHY
    return ControllerHealth(url, condition, status, detail or _phrase(status), latency, _cause_of(code))


def v1_reader(verb: str, read: Callable[[Answer], T]) -> Callable[[Response | NoResponse, Address], T]:
    """`read` over an accepted response of /api/v1/`verb`. AttemptFailed where the body is not what /api/v1 sends."""

    def read_outcome(outcome: Response | NoResponse, address: Address) -> T:
        response = accept_v1(outcome, address, verb)
        try:
            fields = response.json()
            return read(Answer(fields, read_time(fields.get("time")) or _time_of(response), str(address)))
        except MALFORMED:
            raise not_a_controller(address, "200 without what /api/v1 answers") from None

    return read_outcome


def _parameters(answer: Answer) -> dict[str, frozenset[str]]:
    announced = answer.fields.get("parameters") or {}
    return {path: frozenset(map(str, names)) for path, names in announced.items()}


read_parameters = v1_reader("status", _parameters)
"""The parameters that are newer than release 0.1.0, by path, as a status announces them."""


def read_stream(outcome: Response | NoResponse, address: Address) -> Address:
    """The controller that streams /api/v1/watch. The transport keeps the stream itself."""
    response = accept_v1(outcome, address, "watch")
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != EVENT_STREAM:
        raise not_a_controller(address, "200 without server-sent events")
    return address


def read_console(outcome: Response | NoResponse, address: Address) -> str:
    """The URL of the console. Raises NotSupported where the controller serves none."""
    if isinstance(outcome, Response) and outcome.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
        _, code = explanation(outcome)
        raise NotSupported("it serves no console", controller=str(address), problem_code=code)
    headers = accept(outcome, address).headers
    # The console is the only page here that lets no script write HTML; many servers answer any path with a page.
    is_ours = "require-trusted-types-for" in headers.get("content-security-policy", "")
    if not is_ours or not headers.get("content-type", "").startswith(HTML):
        raise not_a_controller(address, "200 without the console")
    return f"{address}/console/"


def explanation(response: Response) -> tuple[str | None, str | None]:
    """The reason in a response, on one line, and its stable code.

    Read from problem details (RFC 9457) and from FastAPI's `{"detail": ...}`, a string or a list of `{"loc", "msg"}`.
    """
    fields = response.json()
    if not isinstance(fields, dict):
        return None, None
    detail, code = fields.get("detail") or fields.get("title"), fields.get("code")
    if isinstance(detail, list):
        detail = "; ".join(_field_error(error) for error in detail if isinstance(error, dict))
    # A server may quote the Authorization header that it refuses.
    reason = one_line(mask_own_tokens(detail)) if isinstance(detail, str) else None
    return reason, (code if isinstance(code, str) else None)


def one_line(text: str) -> str:
    """A server's text for an error message: on one line, bounded, without control characters for a terminal."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_REASON_CHARS else f"{line[: MAX_REASON_CHARS - 3]}..."


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


_CAUSES = {
    ForwardsToItself.code: FailureCause.FORWARDS_TO_ITSELF,
    HostNotAllowed.code: FailureCause.HOST_NOT_ALLOWED,
}
"""What the `code` of a problem says about the way to the controller."""


def _cause_of(problem_code: str | None) -> FailureCause | None:
    return None if problem_code is None else _CAUSES.get(problem_code)


def _is_unknown_path(response: Response) -> bool:
    """Whether the server does not know the path, and is no controller of this package, which would send a code."""
    is_unknown = response.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
    return is_unknown and explanation(response)[1] is None


def _message_of_proxy(response: Response) -> str | None:
    """What to say of a 502, 503 or 504 that no controller sends: a controller gives a reason."""
    if response.status not in _UNAVAILABLE or explanation(response)[0] or response.body.startswith(_FULL):
        return None
    server = one_line(response.headers.get("server", ""))
    name = f" ({server})" if server else ""
    return f"{response.status} {_phrase(response.status)} from a proxy{name}, not from a controller"


def _field_error(error: Mapping[str, Any]) -> str:
    path = error.get("loc")
    where = ".".join(str(step) for step in path[1:]) if isinstance(path, list) else ""
    return f"{where}: {error.get('msg')}" if where else str(error.get("msg"))


def _decoded(response: Response, address: Address) -> Any:
    decoded = response.json()
    if decoded is None:
        raise not_a_controller(address, "200 without JSON")
    return decoded


def _time_of(response: Response) -> datetime | None:
    """The registry's time of the answer: X-Ctl-Time, else Date."""
    return read_time(response.headers.get("x-ctl-time")) or _read_http_date(response.headers.get("date"))


def _read_http_date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"
