"""The JSON of the API as typed models, with a description and an example for each field.

The models make the OpenAPI document and nothing else: `params` parses requests, `serializers` and the endpoints build
answers. This module is imported when the document is requested for the first time, because defining the models takes
10 ms. A field without an example gets one that is made of the examples of its parts.
"""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from dbgpt_ctl.auth.reasons import Reason
from dbgpt_ctl.controller.auth.session_endpoints import MAX_TOKEN_CHARS
from dbgpt_ctl.controller.http.v1_params import (
    DEFAULT_LIMIT,
    MAX_AGE_SECS,
    MAX_DRAIN_SECS,
    MAX_EVENT_ID,
    MAX_LIMIT,
)
from dbgpt_ctl.domain.events import ABSENT, ActorKind
from dbgpt_ctl.domain.fields import MAX_PORT, MAX_REASON_CHARS, MAX_TEXT_CHARS
from dbgpt_ctl.domain.instance import STATES, InstanceState

TIME = "2026-01-02T03:04:05.678901+00:00"
STREAM = "3f2a9c"
CURSOR = f"{STREAM}.41"
ADDRESS = "10.0.0.9"
REASON = "new drivers"
SWITCH = "In any case; also 1/0, yes/no, on/off; empty means false."


def doc(description: str, *examples: Any, default: Any = ..., **facts: Any) -> Any:
    """One field; without a `default` it is required."""
    return Field(default, description=description, examples=list(examples) or None, **facts)


NEWER: Any = {"json_schema_extra": {"x-since": "0.2.0"}}
"""Of a query parameter that release 0.1.0 does not know (see `parameters`)."""
StateFilter: TypeAlias = Literal[STATES]  # type: ignore[valid-type]
EventState: TypeAlias = Literal[(*(state.value for state in InstanceState), ABSENT)]  # type: ignore[valid-type]


class Identity(BaseModel):
    """Which instance."""

    model_name: str = doc(
        "`NAME@TYPE` with exactly one `@`; TYPE is llm, text2vec, reranker, service or any other. "
        "Spaces around it are stripped, case and accents count.",
        "qwen3@llm",
        min_length=1,
        max_length=MAX_TEXT_CHARS,
        pattern=r"^[^@]*[^@\s][^@]*@[^@]*[^@\s][^@]*$",
    )
    host: str = doc(
        "Host name or address at which the worker is called, without scheme, path or spaces. "
        "A metadata address of a cloud, such as 169.254.169.254, is not registered.",
        "10.0.0.4",
        min_length=1,
        max_length=MAX_TEXT_CHARS,
    )
    port: int = doc("Port at which the worker is called. A number as text is taken too.", 8001, ge=1, le=MAX_PORT)


class RegisteredFacts(Identity):
    """What a register says of an instance."""

    weight: float | None = doc(
        "A finite number; null means 1.0. DB-GPT's API servers do not look at it.", 1.0, default=1.0
    )
    check_healthy: bool | None = doc(
        "Whether it is unhealthy when its last heartbeat is too old; null means true.", True, default=True
    )
    prompt_template: str | None = doc(
        "Name of a prompt template; null and empty mean none.",
        None,
        "vicuna_v1.1",
        default=None,
        max_length=MAX_TEXT_CHARS,
    )


class Registration(RegisteredFacts):
    """What a worker sends of itself. The other keys that DB-GPT's workers send are ignored."""

    enabled: bool | None = doc(
        "False: drained, in no list of healthy ones. Counts when the instance is new; null means true.",
        True,
        default=True,
    )


class Instance(Identity):
    """Exactly these nine keys: one more would crash DB-GPT's clients."""

    model_config = ConfigDict(extra="forbid")

    weight: float = doc("As registered.", 1.0)
    check_healthy: bool = doc("Whether it is unhealthy when its last heartbeat is too old.", True)
    healthy: bool = doc("Whether its last heartbeat is fresh and it is not deregistered.", True)
    enabled: bool = doc("False: drained by an operator.", True)
    prompt_template: str | None = doc("Name of a prompt template, if it has one.", None, max_length=MAX_TEXT_CHARS)
    last_heartbeat: datetime = doc("When it last registered or beat, in UTC.", TIME)


Instances: TypeAlias = Annotated[list[Instance], doc("In order of model_name, host and port.")]
Stored: TypeAlias = Annotated[Literal[True], doc("Stored.")]
HeartbeatStored: TypeAlias = Annotated[
    bool, doc("Whether the heartbeat is stored; false: the instance is deregistered and must register.")
]
WasKnown: TypeAlias = Annotated[bool, doc("Whether the instance was ever known.")]


class Health(BaseModel):
    """The controller can answer lists."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["ok"] = doc("Lists can be answered.", "ok")
    reason: str = doc(
        "What is not as it should be: the database is away, or states are held.",
        "database db1:3306/dbgpt: Connection refused; lists are as of 2026-01-02T03:04:05+00:00",
        default=None,
    )


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: Literal["about:blank"] = doc("Always this; `code` names the kind.", "about:blank")
    title: str = doc("The kind, for people.", "Invalid instance")
    status: int = doc("The HTTP status.", 422)
    detail: str = doc("One line: what is wrong, with what value, and what to do.", "port is missing")
    code: str = doc("The kind, for programs; stable.", "invalid_instance")
    field: str = doc("The field or parameter that is wrong.", "port", default=None)
    instance_key: Identity = doc("The identity that is not known.", default=None)
    reason: Reason = doc("Why the token of the request is not enough.", "role", default=None)


class ListQuery(BaseModel):
    """Which instances to list."""

    model_name: str = doc("Only instances of exactly this `NAME@TYPE`; empty means all.", "qwen3@llm", default=None)
    healthy_only: bool = doc(
        f"Only what can be routed to: healthy, not drained, not deregistered. {SWITCH}", True, default=False
    )


class DeregisterQuery(Identity):
    """Which instance to deregister."""

    remove_from_registry: bool = doc(f"Whether it leaves every list. {SWITCH}", True, default=False)


class InstanceQuery(BaseModel):
    """A filter of instances."""

    model_name: str = doc("Only instances of exactly this `NAME@TYPE`. Empty means all.", "qwen3@llm", default=None)
    host: str = doc(
        "Only instances at this host, exactly as it is registered. Empty means all.", "10.0.0.4", default=None
    )
    port: int = doc("Only instances at this port. Empty means all.", 8001, default=None, ge=1, le=MAX_PORT)


class KnownInstancesQuery(InstanceQuery):
    """Which instances to list."""

    state: StateFilter = doc(
        "Only instances in this state; `drained`: every drained one, in any state. Empty means all.",
        "healthy",
        default=None,
    )


class EventsQuery(InstanceQuery):
    """Which events to list."""

    name: str = doc("Only models of this name, of any type.", "qwen2.5", default=None, **NEWER)
    type: str = doc("Only models of this type.", "llm", default=None, **NEWER)
    verb: str = doc("Only events of this verb.", "drain", default=None, **NEWER)
    by: str = doc("Only those by this kind of actor, or by the token of this name.", "anna", default=None, **NEWER)
    after: int = doc("Only those with a higher id.", 41, default=None, ge=0, le=MAX_EVENT_ID)
    since: datetime = doc("Only those from this time on, with an offset.", TIME, default=None)
    until: datetime = doc("Only those before this time, with an offset.", TIME, default=None, **NEWER)
    limit: int = doc("At most this many.", 100, default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class WatchQuery(InstanceQuery):
    """What to watch, and from where."""

    cursor: str = doc("The same as the header `Last-Event-ID`.", CURSOR, default=None)
    last_event_id: str = doc(
        "The last id that was received: changes after it are sent. It overrides `cursor`.",
        CURSOR,
        default=None,
        alias="Last-Event-ID",
        json_schema_extra={"in": "header"},
        pattern=r"^[!-~]{1,64}\.[0-9]{1,18}$",
    )


class DrainRequest(BaseModel):
    """Why to drain, and for how long."""

    reason: str | None = doc(
        "One printable line, shown to other operators.", REASON, default=None, max_length=MAX_REASON_CHARS
    )
    for_secs: float | None = doc(
        "The drain ends by itself after this many seconds, on the registry's clock; null means never.",
        7200.0,
        default=None,
        ge=1,
        le=MAX_DRAIN_SECS,
    )


class Drain(DrainRequest, Identity):
    """Which instance to drain, and why."""


class DrainedRegistration(RegisteredFacts):
    """An instance to register and to drain."""

    drain: DrainRequest = doc("The drain; an empty object is one without reason and end.")


class Prune(BaseModel):
    """What to forget."""

    older_than_secs: float = doc("Gone for longer than this.", 86_400.0, ge=0, le=int(MAX_AGE_SECS))
    dry_run: bool = doc("Only report which.", True, default=False)
    unchecked: bool = doc(
        "Also those without `check_healthy`, which are healthy for ever: where the last heartbeat is older than "
        "`older_than_secs` and than the heartbeat timeout.",
        False,
        default=False,
    )


class Versioned(BaseModel):
    """An answer with the version of its format."""

    version: Literal[1] = doc("The version of this format: 1.", 1)


class Timed(Versioned):
    """An answer with the time that its states are of."""

    time: datetime = doc("The registry's time: ages count against it.", TIME)


class Held(Timed):
    """An answer whose states may be held."""

    held_until: datetime | None = doc(
        "The registry itself was away: until then the silent ones are as they were before.", None, TIME
    )
    heartbeat_timeouts_secs: list[float] = doc(
        "Where the controllers that share the registry differ in it: the timeouts, the shortest first. States are by "
        "that of this controller.",
        [60.0, 120.0],
    )


class Listed(Held):
    """An answer made of a list, which may be stale too."""

    stale_since: datetime | None = doc("The database is away: what changed since then may be missing.", None, TIME)


class DrainFacts(BaseModel):
    """A drain. It is in force whatever the state of the instance is."""

    since: datetime | None = doc("When an operator drained it; null if its first register had `enabled` false.", TIME)
    by: str | None = doc(
        "The caller of the drain: the name of its token and its address; without a valid token the address.",
        f"anna ({ADDRESS})",
    )
    reason: str | None = doc("Why, in the operator's words.", REASON)
    until: datetime | None = doc(
        "When the drain ends by itself, on the registry's clock; null means never.", None, TIME
    )


class KnownInstance(Instance):
    """An instance with all its facts."""

    model_config = ConfigDict(extra="ignore")

    enabled: bool = doc("False: drained.", False)
    state: InstanceState = doc("Its state now, drained or not.", "healthy")
    routable: bool = doc("Whether it gets requests: it is healthy and not drained.", False)
    held: bool = doc(
        "Whether it is healthy only because the registry itself was away: its own heartbeat is too old.", False
    )
    drain: DrainFacts | None = doc("Its drain; null if it is not drained.")
    registered_at: datetime = doc("When it was registered first.", TIME)
    deregistered_at: datetime | None = doc("When it was deregistered, if it is.", None)
    refused_at: datetime | None = doc("When its last heartbeat was refused, because it came after a deregister.", None)
    flaps: int = doc("How often it expired since it was registered first.", 0)
    removed: bool = doc("Whether it is in no list, and kept only to refuse late heartbeats.", False)


class KnownInstances(Listed):
    """The instances."""

    instances: list[KnownInstance] = doc("In order of model_name, host and port.")


class OneInstance(Held):
    """The instance."""

    instance: KnownInstance


class Drained(Held):
    """Stored; the instance as it is now."""

    instance: KnownInstance
    durable: bool = doc("Whether it outlives the controller's process.", True)


class Pruned(Versioned):
    """What is forgotten, or would be."""

    dry_run: bool = doc("Whether nothing was forgotten.", True)
    instances: list[Identity] = doc("In order of model_name, host and port.")


class Event(Identity):
    """One change of one instance."""

    id: int = doc("Rises by one with each change.", 42)
    time: datetime = doc("When it became true.", TIME)
    old: EventState = doc("The state before.", "healthy")
    new: EventState = doc("The state after. A drain and an undrain leave it as it was.", "healthy")
    drained: bool = doc("Whether it is drained after the change.", True)
    verb: str = doc("register, heartbeat, deregister, drain, undrain, prune or expire.", "drain")
    actor: ActorKind = doc("What caused it.", "operator")
    actor_name: str | None = doc("The name of the token that came with the call; null without a valid one.", "anna")
    address: str | None = doc("Where the call came from.", ADDRESS)
    reason: str | None = doc("Why, in the operator's words.", REASON)


class Events(Versioned):
    """The events."""

    stream: str = doc("Names the numbering: ids of another stream mean nothing in it.", STREAM)
    last_id: int = doc("The id of the newest event; 0 without events.", 42)
    missed: bool = doc("Some of the events after `after` are forgotten.", False)
    next_after: int = doc(
        "The `after` of the next page: all events up to this id were looked at. With `after`, there are more while it "
        "is less than `last_id`.",
        42,
    )
    complete_since: datetime | None = doc(
        "Some of the events before this time are forgotten; null where none is.", None, TIME
    )
    operator_complete_since: datetime | None = doc("The same of what operators did, which is kept longer.", None, TIME)
    events: list[Event] = doc("In order of their ids.")


class ProbeQuery(BaseModel):
    """How a probe answers."""

    verbose: str = doc("Lists the checks, whatever its value is.", "", default=None)


Probe: TypeAlias = Annotated[
    str,
    doc(
        "`ok`, or a line for each check, `[+]NAME ok` or `[-]NAME: REASON`, and a line for the result. The reasons are "
        "for those who may read.",
        "[+]shutdown ok\n[-]database: database db1:3306/dbgpt cannot be reached: connection refused; lists are as of "
        f"{TIME}\n[+]event-loop ok\n[+]queue ok\nreadyz check passed although 1 check failed: lists can be answered\n",
    ),
]


class Check(BaseModel):
    """What a check found of one part of the controller or of its registry."""

    name: str = doc("One word, such as database, tokens-file or event-loop.", "database")
    ok: bool = doc("Whether nothing is wrong.", True)
    detail: str | None = doc("What is wrong, in one line; null: nothing is.", None)


class AboutController(BaseModel):
    """The controller itself."""

    version: str = doc("The version of its package.", "1.0.0")
    started_at: datetime = doc("When its process started.", TIME)
    leaving: bool = doc("Whether it ends soon.", False)


class AboutRegistry(BaseModel):
    """Where instances are kept."""

    kind: str = doc("embedded, sqlite, mysql, mariadb or remote.", "mariadb")
    place: str | None = doc("Where it keeps its facts.", "db1:3306/dbgpt")
    durable: bool = doc("Whether they outlive the controller's process.", True)
    ready: bool = doc("Whether lists can be answered.", True)
    reason: str | None = doc("What is not as it should be.", None)


class Settings(BaseModel):
    """What the controller was started with; empty where another controller keeps the registry."""

    heartbeat_interval_secs: float = doc("Seconds between two heartbeats of a worker.", 20.0, default=None)
    heartbeat_timeout_secs: float = doc(
        "Seconds after its last heartbeat from which an instance is unhealthy.", 60.0, default=None
    )
    max_instances: int = doc("Instances beyond this number are refused.", 200_000, default=None)


class SharingController(BaseModel):
    """A controller that shares the registry and has reported itself within the last minute."""

    id: str = doc("Random, another one for each process.", "9f86d081884c7d65")
    version: str = doc("The version of its package.", "1.0.0")
    address: str = doc("The URL at which it listens.", "http://10.0.0.2:8000")
    heartbeat_timeout_secs: float = doc("Its heartbeat timeout.", 60.0)
    heartbeat_interval_secs: float = doc("Its heartbeat interval.", 20.0)
    started_at: datetime = doc("When it first reported itself, by the registry's clock.", TIME)
    seen_at: datetime = doc("When it last reported itself, by the registry's clock.", TIME)


class ModelCounts(BaseModel):
    """How many instances of one model are in each state, and how many of them are routable or drained."""

    model_name: str = doc("`NAME@TYPE`.", "qwen3@llm")
    healthy: int = doc("How many are healthy.", 1)
    unhealthy: int = doc("How many are unhealthy.", 0)
    deregistered: int = doc("How many are deregistered.", 0)
    routable: int = doc("How many get requests: they are healthy and not drained.", 1)
    held: int = doc("How many are healthy only because the registry itself was away.", 0)
    drained: int = doc("How many are drained, in any state.", 0)
    unhealthy_drained: int = doc("How many are unhealthy and drained.", 0)
    unchecked: int = doc("How many are healthy whatever their workers do: they have no `check_healthy`.", 0)


class Connections(BaseModel):
    """The connections of the controller, and what their limit did since its start."""

    open: int = doc("How many there are.", 12)
    limit: int = doc("How many there may be (`max_connections`).", 19872)
    closed: int = doc("How many idle, incomplete or stalled ones closed to make room for a new one.", 0)
    refused: int = doc("How many new ones were refused, because no other one could close.", 0)


class ExpiringToken(BaseModel):
    """A token that expires within 30 days, or has expired."""

    name: str = doc("The name of the token.", "worker-a")
    expires: str = doc("When it expires.", TIME)


class AuthTokensFile(BaseModel):
    """The tokens file, as this controller read it last."""

    digest: str = doc(
        "12 hexadecimal digits that differ when the tokens do; the mode and comments do not count.", "9f2c1d04ab37"
    )
    tokens: int = doc("How many tokens it has.", 3)
    problem: str | None = doc("Why the file cannot be used now; the tokens that were read last stay in force.")
    readable_by_others: str | None = doc("The mode of the file, if others than its owner can read it.")
    expiring: list[ExpiringToken]


class Auth(BaseModel):
    """The check of who may do what."""

    mode: str = doc("off, log or enforce.", "enforce")
    mode_origin: str = doc("`tokens file` or `setting`.", "tokens file")
    open: bool = doc("Whether nothing is checked although other machines can reach the controller.", False)
    tokens_file: AuthTokensFile | None = doc("Null without one.")


class Tls(BaseModel):
    """The listener over TLS and its certificate."""

    port: int = doc("The port of the listener.", 8443)
    not_after: str = doc("Until when the certificate in use is valid.", TIME)
    problem: str | None = doc(
        "Why no client accepts the certificate in use, or why its files, which changed, are not used; null if all is "
        "well."
    )


class TokenUse(BaseModel):
    """A token of the tokens file, and its use at this controller since the controller's start."""

    name: str = doc("The name of the token.", "worker-a")
    role: str = doc("reader, worker, operator or metrics.", "worker")
    models: list[str] = doc("The models that it may register; empty: any.", ["qwen*@llm"])
    hosts: list[str] = doc("The hosts that it may register; empty: any.", ["10.0.0.0/24"])
    max_instances: int | None = doc("How many instances it may register; null: any number.", None)
    expires: datetime | None = doc("Null: never.", None)
    valid: int = doc("How many secrets are valid for it: 0 when it is revoked, 2 while it is rotated.", 1)
    last_used: datetime | None = doc(
        "The last request with its newest secret, or before it was revoked; null: none.", TIME
    )
    old_last_used: datetime | None = doc("The last request with the secret that was replaced; null: none.", None)


class Tally(BaseModel):
    """How often something was refused, or served in log mode, and when."""

    reason: str = doc(
        "none, unknown, expired, revoked, role, models, hosts or max-instances: why enforce mode refuses it. old-token "
        "is no refusal: the token was rotated, and is valid until it is revoked.",
        "none",
    )
    count: int = doc("How many requests.", 12)
    first: datetime = doc("The first of them.", TIME)
    last: datetime = doc("The last of them.", TIME)
    served: bool = doc("Whether they were served, as in log mode; a change of the mode begins the count anew.", True)


class RefusedRequests(Tally):
    """Requests that have all these facts in common. Texts of callers are in escaped ASCII, cut, and without tokens."""

    source: str | None = doc("The address from which they came.", ADDRESS)
    user_agent: str = doc("The header User-Agent.", "python-httpx/0.27.0")
    label: str | None = doc("The user name that the caller gives itself.", "worker-a")
    token: str | None = doc("The name of the token, where it is known.", None)
    request: str = doc("Method and path.", "POST /api/controller/heartbeat")
    model_name: str | None = doc("The instance, where the request was read so far.", "qwen3@llm")
    host: str | None = doc("The instance, where the request was read so far.", "10.0.0.4")
    port: int | None = doc("The instance, where the request was read so far.", 8001)


class Refusals(BaseModel):
    """The requests that enforce mode refuses."""

    since: datetime = doc("Since when this controller has counted them.", TIME)
    rows: list[RefusedRequests] = doc("At most 1,000, in no order.")
    other: list[Tally] = doc("What has no row, by reason.")


class AuthReport(Auth, Versioned):
    """The tokens, and the requests that enforce mode refuses, at this controller."""

    time: datetime = doc("The time of the controller.", TIME)
    tokens: list[TokenUse] = doc("As the tokens file has them, without secrets and hashes.")
    refusals: Refusals


class SignIn(BaseModel):
    """With which token."""

    token: str = doc(
        "As `ctl token create` prints it; `NAME:` before it is left out.",
        "dctl_sLhHZTSRrysz8N3YjhDeQTUCArMHyHsb3h9isKne6fY",
        min_length=1,
        max_length=MAX_TOKEN_CHARS,
    )


class PageSession(Versioned):
    """Who the page in a browser is, and what it may do at this controller."""

    mode: str = doc("off, log or enforce.", "enforce")
    name: str | None = doc("The name of the valid token that proves the request; null: none does.", "anna")
    role: str | None = doc("The role of that token.", "operator")
    expires: datetime | None = doc("When the session or its token ends, whichever is first; null: never.", TIME)
    may_read: bool = doc("Whether lists, events and the status are for this page.", True)
    may_change: bool = doc("Whether a drain that this page sends would be served.", True)
    read_only_reason: str | None = doc("A sentence for people, if it would not be; else null.", None)


class RefusedWorker(BaseModel):
    """Heartbeats and registers that this controller refuses for one reason, to one caller."""

    reason: str = doc("One of the reasons of `/api/v1/auth`.", "none")
    source: str | None = doc("The address from which they came.", ADDRESS)
    token: str | None = doc("The name of the token, where it is known.", None)
    model_name: str | None = doc("The instance; null where the body was not read, as without a valid token.", None)
    host: str | None = doc("The same.", None)
    port: int | None = doc("The same.", None)
    count: int = doc("How many were refused.", 12)
    last_secs_ago: float = doc("How long ago the last one was refused, in seconds.", 3.2)


class AuthOfStatus(Auth):
    """The check of who may do what, and the workers that it refuses."""

    refused_workers: list[RefusedWorker] = doc("Those of the last 10 minutes, at most 1,000, in no order.")


class Outage(BaseModel):
    """A time without stored heartbeats: the registry was stopped, frozen or unreachable, or its clock was set."""

    gone_at: datetime = doc("Its last sign of life before.", TIME)
    back_at: datetime = doc("Its first one after.", TIME)
    held_until: datetime = doc("Until then, silent instances kept their state.", TIME)


class Status(Listed):
    """How the controller and its registry are, also while the registry is away."""

    parameters: dict[str, list[str]] = doc(
        "By path, the query parameters that release 0.1.0 does not know, and does not refuse either.", {}
    )
    controller: AboutController
    registry: AboutRegistry
    checks: list[Check] = doc(
        "What is known of each part of the controller and of its registry, as `/readyz?verbose` lists it."
    )
    settings: Settings
    auth: AuthOfStatus | None = doc("Null where no check is built in.")
    controllers: list[SharingController] = doc(
        "The living controllers that share the registry, with this one; empty where none can, or where another "
        "controller keeps the registry."
    )
    outages: list[Outage] | None = doc(
        "The outages of the registry in the last 30 days, at most 100, the newest last. Null while they are not known."
    )
    connections: Connections | None = doc("Null where the controller runs inside another application.")
    readers_dropped: int = doc(
        "How many connections were closed since the start because the peer did not take a list or a watch.", 0
    )
    tls: Tls | None = doc("Null where the controller does not listen with TLS.")
    models: list[ModelCounts] | None = doc("In order of model_name; null while the registry cannot be read.")
    watchers: int = doc("How many watches this controller serves.", 0)
    last_event_id: int | None = doc("The id of the newest event; null while it is not known.", 42)


class FindingEvidence(BaseModel):
    """One line for people. Names in it are escaped, as `ctl` prints them."""

    subject: str = doc("The controller, model or instance that it is about; may be empty.", "qwen3@llm")
    detail: str = doc("What was found there.", "no routable instance: 2 unhealthy")


class DiagnosisFinding(BaseModel):
    """One cause, with what shows it and the remedy. Names in the texts are escaped, as `ctl` prints them."""

    code: str = doc("The rule, for programs; stable. docs/troubleshooting.md lists them.", "no-healthy-instance")
    severity: Literal["error", "warning", "info"] = doc(
        "error: requests fail, or will. warning: they may, or something is hidden. info: an operator wanted that.",
        "error",
    )
    summary: str = doc("What is wrong, in one line.", "1 model has no instance that gets requests")
    evidence: list[FindingEvidence] = doc("What shows it; at most 100.")
    fix: str = doc("What to do.", "ctl why qwen3@llm says why")
    more: int = doc("How many further pieces of evidence there are.", 0)


class Diagnosis(Versioned):
    """What is wrong, as far as this controller knows, also while the registry is away."""

    time: datetime = doc("The registry's time of the states.", TIME)
    findings: list[DiagnosisFinding] = doc("Errors first, then warnings, then infos; empty: nothing is wrong.")


class EffectiveSetting(BaseModel):
    """One setting of the controller."""

    name: str = doc("Its name.", "heartbeat_timeout_secs")
    variable: str = doc("Its variable in the environment.", "CONTROLLER_HEARTBEAT_TIMEOUT_SECS")
    value: bool | int | float | str | None = doc("The value in force, without secrets; null: none.", 60.0)
    origin: str = doc("Where the value comes from.", "flag --heartbeat-timeout-secs")


class EffectiveSettings(Versioned):
    """With which settings the controller was started."""

    settings: list[EffectiveSetting] = doc("All of them, in the order of docs/settings.md.")


class InstanceCommand(BaseModel):
    """A command of `ctl`."""

    command: str = doc(
        "To paste into a shell: names are quoted.",
        "ctl -a http://10.0.0.2:8000 models get qwen3@llm/10.0.0.4:8001",
    )
    does: str = doc("What it does.", "Show all its facts.")


class Commands(Versioned):
    """What a person can do about the instance with `ctl`."""

    commands: list[InstanceCommand] = doc("Those for any instance, whatever its state is.")


EXAMPLE_STREAM = (
    f'event: ready\nid: {CURSOR}\ndata: {{"cursor":"{CURSOR}"}}\n\n'
    f'event: change\nid: {STREAM}.42\ndata: {{"id":42,"time":"{TIME}","model_name":"qwen3@llm","host":"10.0.0.4",'
    f'"port":8001,"old":"healthy","new":"healthy","drained":true,"verb":"drain","actor":"operator",'
    f'"actor_name":"anna","address":"{ADDRESS}","reason":"{REASON}"}}\n\n'
)


Watch: TypeAlias = Annotated[
    str,
    doc(
        "Server-sent events, for as long as both sides like. `ready` comes first; `change` holds an EVENT, and its id "
        "is the cursor after it; `reset`: changes are missing here, list again; `dropped` (this reader is "
        "too slow), `refused` (the token is not valid any more) and `leaving` (the controller ends) are the last. "
        "Comments are signs of life.",
        EXAMPLE_STREAM,
    ),
]
EXAMPLE_METRICS = """# HELP dbgpt_controller_watchers Watches that are open.
# TYPE dbgpt_controller_watchers gauge
dbgpt_controller_watchers 2.0
"""
Metrics: TypeAlias = Annotated[
    str,
    doc(
        "The text format of Prometheus; OpenMetrics, or compressed with gzip, for a scraper that accepts it. "
        "docs/metrics.md lists the metrics.",
        EXAMPLE_METRICS,
    ),
]
