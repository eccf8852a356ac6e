"""The documents of the commands that report on controllers, tokens and `ctl` itself."""

from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

from dbgpt_ctl.auth.tokens import Mode, Role
from dbgpt_ctl.cli.documents.instances import InstanceIdentity, PrintedPing, TimeText
from dbgpt_ctl.databases import REGISTRIES
from dbgpt_ctl.diagnosis.facts import Severity
from dbgpt_ctl.domain.controllers import ControllerCondition
from dbgpt_ctl.wire.answers import Version
from dbgpt_ctl.wire.auth import AuthOfStatus, AuthReportObject
from dbgpt_ctl.wire.fields import doc
from dbgpt_ctl.wire.status import (
    AboutRegistry,
    CheckObject,
    Connections,
    ModelCounts,
    OutageObject,
    RegistrySettings,
    SharingController,
    Tls,
)

Cause: TypeAlias = Annotated[
    str | None, doc("Why it gives no answer, such as connection-refused (docs/troubleshooting.md); null: not known.")
]


class CheckedController(TypedDict):
    """Keys may be added under the same version."""

    controller: Annotated[str, doc("Its URL, without secrets.")]
    status: ControllerCondition
    http_status: int | None
    latency_secs: float | None
    detail: Annotated[str, doc("ok, or the reason of any other status.")]
    cause: Cause


class PrintedController(TypedDict):
    """A controller, and whether it answers."""

    controller: Annotated[str, doc("Its URL, without user and token.")]
    answers: bool
    error: str | None
    cause: Cause
    registry: Annotated[str | None, doc(f"One of {', '.join(REGISTRIES)}; null where it is unknown.")]
    instances: int | None
    stale_since: Annotated[
        TimeText | None, doc("Its registry is away, and what is reported of instances is of that time.")
    ]
    held_until: Annotated[
        TimeText | None, doc("Its registry was away; until then some states are as they were before.")
    ]


class PrintedFinding(TypedDict):
    """One cause, with all instances that it concerns."""

    code: Annotated[str, doc("The rule that found it; stable.")]
    severity: Severity
    summary: str
    evidence: Annotated[list[str], doc("Lines for people.")]
    fix: str
    instances: list[InstanceIdentity]


class ExaminedCluster(TypedDict):
    """What is wrong. Keys may be added under the same version."""

    version: Version
    controllers: Annotated[list[PrintedController], doc("", schema={"minItems": 1})]
    instances: Annotated[int, doc("Number of instances that the report is about.")]
    get_requests: Annotated[int, doc("Number of these that are healthy and not drained.")]
    probed: Annotated[int, doc("Number of addresses that were probed.")]
    unprobed: Annotated[int, doc("Number of addresses that were not probed because there are too many.")]
    pings: Annotated[list[PrintedPing], doc("What routable instances answered; empty without --ping.")]
    unpinged: Annotated[int, doc("Number of routable instances that were not pinged because there are too many.")]
    findings: list[PrintedFinding]


class WhyDocument(ExaminedCluster):
    """Why a model gets no requests."""

    name: Annotated[str, doc("NAME or NAME@TYPE, as given.")]


class DoctorDocument(ExaminedCluster):
    """What is wrong with a cluster."""

    models: int
    errors: int
    warnings: int


class CheckDocument(TypedDict):
    """Keys may be added under the same version."""

    name: Annotated[str, doc("The model; controller for ctl wait --controller.")]
    condition: Annotated[str, doc("Such as healthy>=2.")]
    met: Annotated[bool, doc("Whether it holds, whatever the state of the unknown instances is.")]
    counts: Annotated[
        dict[str, int],
        doc(
            "How many are healthy, unhealthy, drained, deregistered and unknown; unknown: counted as healthy only "
            "because the registry itself was away. Of controllers, how many are healthy."
        ),
    ]
    stale_since: NotRequired[
        Annotated[
            TimeText | None,
            doc(
                "The registry is away, and the counts are of that time (with --allow-stale). Not there for ctl wait "
                "--controller."
            ),
        ]
    ]
    held_until: NotRequired[
        Annotated[TimeText | None, doc("Until then the unknown ones are shown as they were before.")]
    ]


class StatusOfController(TypedDict):
    """One controller. What it does not report, or does not have, is null."""

    controller: Annotated[str, doc("Its URL, without user and token.")]
    status: Annotated[str, doc("up, leaving, not ready, down or unknown.")]
    latency_secs: float | None
    version: str | None
    started_at: TimeText | None
    registry: AboutRegistry | None
    checks: Annotated[
        list[CheckObject] | None,
        doc("What is known of each part of it and of its registry, as /readyz?verbose lists it."),
    ]
    connections: Connections | None
    readers_dropped: Annotated[
        int | None,
        doc("Connections that were closed since the start because the peer did not take a list or a watch."),
    ]
    auth: Annotated[AuthOfStatus | None, doc("How it checks its callers.")]
    tls: Annotated[Tls | None, doc("The listener for https.")]
    detail: Annotated[str | None, doc("Why it is not up.")]


class StatusFinding(TypedDict):
    """One line of the overview."""

    code: Annotated[str, doc("The cause, as ctl why and ctl doctor name it (docs/troubleshooting.md).")]
    subject: str
    detail: str


class StatusDocument(TypedDict):
    """The controllers, their registry, and what is registered. Keys may be added under the same version."""

    version: Version
    time: Annotated[TimeText | None, doc("The registry's time.")]
    controllers: Annotated[list[StatusOfController], doc("", schema={"minItems": 1})]
    registry: AboutRegistry
    settings: RegistrySettings
    living_controllers: Annotated[
        list[SharingController],
        doc("The controllers that share the registry and have reported themselves within the last minute."),
    ]
    stale_since: TimeText | None
    held_until: TimeText | None
    outages: Annotated[
        list[OutageObject] | None,
        doc(
            "When the registry was unavailable in the last 30 days, the newest last; null where the controller does "
            "not report it."
        ),
    ]
    models: Annotated[
        list[ModelCounts] | None,
        doc("null while the registry cannot be read: then nothing is known of the instances."),
    ]
    warnings: Annotated[list[StatusFinding], doc("Errors and warnings.")]
    info: Annotated[list[StatusFinding], doc("What operators wanted, such as a long drain: no warnings.")]


class AuthOfController(TypedDict):
    """The tokens, and the refused requests, at one controller."""

    controller: Annotated[str, doc("Its URL, without user and token.")]
    auth: Annotated[AuthReportObject | None, doc("As it reports them, with the requests that --since selects.")]
    detail: Annotated[str | None, doc("Why it does not report them.")]


class AuthCheck(TypedDict):
    """Whether `enforce` would refuse anyone."""

    met: bool
    unmet: Annotated[list[str], doc("What speaks against it.")]


class AuthStatusDocument(TypedDict):
    """Who calls the controllers, and with which tokens. Keys may be added under the same version."""

    version: Version
    controllers: Annotated[list[AuthOfController], doc("", schema={"minItems": 1})]
    differences: Annotated[list[str], doc("In what the controllers differ.")]
    check: Annotated[AuthCheck | None, doc("null without --check.")]


class PrintedContext(TypedDict):
    """One context."""

    name: str
    current: bool
    address: Annotated[str | None, doc("Without user and token.")]
    request_timeout: Annotated[float | None, doc("Seconds.")]
    token_file: str | None
    ca_file: str | None


class ContextsDocument(TypedDict):
    """The contexts. Keys may be added under the same version."""

    version: Version
    file: str
    current: str | None
    contexts: list[PrintedContext]


SettingOfContext = TypedDict(
    "SettingOfContext",
    {
        "value": Any,
        "from": Annotated[
            str | None,
            doc("Where the value is from: a flag, a context, a variable, a file, default; null for no value."),
        ],
    },
)
"""A value, and where it comes from."""


class ContextDocument(TypedDict):
    """What a command would use, and where it comes from. Keys may be added under the same version."""

    version: Version
    context: SettingOfContext
    address: Annotated[SettingOfContext, doc("A text, without user and token.")]
    request_timeout: Annotated[SettingOfContext, doc("Seconds.")]
    ca_file: Annotated[SettingOfContext, doc("PEM file with the certificates to trust; null: the system's.")]
    token: Annotated[
        SettingOfContext,
        doc("Only whether there is one.", schema={"properties": {"value": {"enum": ["********", None]}}}),
    ]


class NewToken(TypedDict):
    """The new token, which is a secret. Keys may be added under the same version."""

    version: Version
    name: str
    role: Role
    token: Annotated[str, doc("The token itself. It is shown this one time.")]
    expires: Annotated[str | None, doc("A time in UTC, as in 2027-01-31T00:00:00Z. null: never.")]
    controller_addr: Annotated[
        str | None,
        doc("The value of DB-GPT's setting controller_addr, with the token. null for the roles operator and metrics."),
    ]
    tokens_file: str


class PrintedToken(TypedDict):
    """One token, without its secret and hash."""

    name: str
    role: Role
    state: Annotated[str, doc("valid, expired or revoked.")]
    valid_tokens: Annotated[
        int,
        doc("How many tokens of this name are accepted: 2 after a rotation, until the old one is revoked."),
    ]
    models: Annotated[list[str], doc("Patterns of NAME@TYPE. Empty: any.")]
    hosts: Annotated[list[str], doc("Ranges of addresses and patterns of names. Empty: any.")]
    max_instances: Annotated[int | None, doc("null: any number.")]
    expires: Annotated[str | None, doc("A time in UTC. null: never.")]


class TokensDocument(TypedDict):
    """The tokens in a file. Keys may be added under the same version."""

    version: Version
    file: str
    mode: Annotated[Mode | None, doc("null: the file does not say it.")]
    digest: Annotated[str, doc("Equal for equal tokens; ctl doctor compares it between controllers.")]
    tokens: list[PrintedToken]


class VersionDocument(TypedDict):
    """The versions of ctl and of what runs it. Keys may be added under the same version."""

    version: Version
    ctl: Annotated[str, doc("The version of ctl.")]
    python: Annotated[str, doc("The version of Python that runs it.")]
