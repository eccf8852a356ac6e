"""How a controller and its registry are: the status, the probes and the metrics."""

from datetime import timedelta
from typing import Annotated, Self, TypeAlias

from msgspec import UNSET, UnsetType, field

from dbgpt_ctl.databases import REGISTRIES
from dbgpt_ctl.domain import controllers
from dbgpt_ctl.domain.controllers import ControllerRecord
from dbgpt_ctl.domain.registry_outage import Hold
from dbgpt_ctl.wire.answers import Listed
from dbgpt_ctl.wire.auth import AuthOfStatus
from dbgpt_ctl.wire.fields import TIME, Count, Seconds, Sent, Time, doc

Probe: TypeAlias = Annotated[
    str,
    doc(
        "`ok`, or a line for each check, `[+]NAME ok` or `[-]NAME: REASON`, and a line for the result. The reasons are "
        "for those who may read.",
        "[+]shutdown ok\n[-]database: database db1:3306/dbgpt cannot be reached: connection refused; lists are as of "
        f"{TIME}\n[+]event-loop ok\n[+]queue ok\nreadyz check passed although 1 check failed: lists can be answered\n",
    ),
]


class CheckObject(Sent):
    """What a check found of one part of the controller or of its registry."""

    name: Annotated[str, doc("One word, such as database, tokens-file or event-loop.", "database")]
    ok: Annotated[bool, doc("Whether nothing is wrong.", True)]
    detail: Annotated[str | None, doc("What is wrong, in one line; null: nothing is.", None)]

    @classmethod
    def of(cls, check: controllers.Check) -> Self:
        """As a controller knows it."""
        return cls(name=check.name, ok=check.ok, detail=check.detail)

    @property
    def problem(self) -> str | None:
        """What is wrong; None: nothing is."""
        return None if self.ok else self.detail or "failed"


class AboutController(Sent):
    """The controller itself."""

    version: Annotated[str, doc("The version of its package.", "1.0.0")]
    started_at: Annotated[Time, doc("When its process started.", TIME)]
    leaving: Annotated[bool, doc("Whether it ends soon.", False)]


class AboutRegistry(Sent):
    """Where instances are kept."""

    kind: Annotated[str, doc(f"One of {', '.join(REGISTRIES)}.", "mariadb")]
    place: Annotated[str | None, doc("Where it keeps its facts.", "db1:3306/dbgpt")]
    durable: Annotated[bool, doc("Whether they outlive the controller's process.", True)]
    ready: Annotated[bool, doc("Whether lists can be answered.", True)]
    reason: Annotated[str | None, doc("What is not as it should be.", None)]


class RegistrySettings(Sent):
    """What the controller was started with; empty where another controller keeps the registry."""

    heartbeat_interval_secs: Annotated[
        Seconds | UnsetType, doc("Seconds between two heartbeats of a worker.", 20.0)
    ] = UNSET
    heartbeat_timeout_secs: Annotated[
        Seconds | UnsetType, doc("Seconds after its last heartbeat from which an instance is unhealthy.", 60.0)
    ] = UNSET
    max_instances: Annotated[Count | UnsetType, doc("Instances beyond this number are refused.", 200_000)] = UNSET


class SharingController(Sent):
    """A controller that shares the registry and has reported itself within the last minute."""

    id: Annotated[str, doc("Random, another one for each process.", "9f86d081884c7d65")]
    version: Annotated[str, doc("The version of its package.", "1.0.0")]
    address: Annotated[str, doc("The URL at which it listens.", "http://10.0.0.2:8000")]
    heartbeat_timeout_secs: Annotated[Seconds, doc("Its heartbeat timeout.", 60.0)]
    heartbeat_interval_secs: Annotated[Seconds, doc("Its heartbeat interval.", 20.0)]
    started_at: Annotated[Time, doc("When it first reported itself, by the registry's clock.", TIME)]
    seen_at: Annotated[Time, doc("When it last reported itself, by the registry's clock.", TIME)]

    @classmethod
    def of(cls, record: ControllerRecord) -> Self:
        """As it reported itself in the registry."""
        timeout, interval = record.heartbeat_timeout.total_seconds(), record.heartbeat_interval.total_seconds()
        facts = {name: getattr(record, name) for name in ("id", "version", "address", "started_at", "seen_at")}
        return cls(**facts, heartbeat_timeout_secs=timeout, heartbeat_interval_secs=interval)

    @property
    def record(self) -> ControllerRecord:
        """The same as a record of the registry."""
        timeout, interval = (
            timedelta(seconds=secs) for secs in (self.heartbeat_timeout_secs, self.heartbeat_interval_secs)
        )
        return ControllerRecord(self.id, self.version, self.address, timeout, interval, self.started_at, self.seen_at)


class ModelCounts(Sent, gc=False):
    """How many instances of one model are in each state, and how many of them are routable or drained."""

    model_name: Annotated[str, doc("`NAME@TYPE`.", "qwen3@llm")]
    healthy: Annotated[Count, doc("How many are healthy.", 1)]
    unhealthy: Annotated[Count, doc("How many are unhealthy.", 0)]
    deregistered: Annotated[Count, doc("How many are deregistered.", 0)]
    routable: Annotated[Count, doc("How many get requests: they are healthy and not drained.", 1)]
    held: Annotated[Count, doc("How many are healthy only because the registry itself was away.", 0)]
    drained: Annotated[Count, doc("How many are drained, in any state.", 0)]
    unhealthy_drained: Annotated[Count, doc("How many are unhealthy and drained.", 0)]
    unchecked: Annotated[Count, doc("How many are healthy whatever their workers do: they have no `check_healthy`.", 0)]

    def __post_init__(self) -> None:
        """Numbers need no check; there may be very many."""


class Connections(Sent):
    """The connections of the controller, and what their limit did since its start."""

    open: Annotated[Count, doc("How many there are.", 12)]
    limit: Annotated[Count, doc("How many there may be (`max_connections`).", 19872)]
    closed: Annotated[Count, doc("How many idle, incomplete or stalled ones closed to make room for a new one.", 0)]
    refused: Annotated[Count, doc("How many new ones were refused, because no other one could close.", 0)]


class Tls(Sent):
    """The listener over TLS and its certificate."""

    port: Annotated[int, doc("The port of the listener.", 8443)]
    not_after: Annotated[Time, doc("Until when the certificate in use is valid.", TIME)]
    problem: Annotated[
        str | None,
        doc(
            "Why no client accepts the certificate in use, or why its files, which changed, are not used; null if all "
            "is well."
        ),
    ]


class OutageObject(Sent):
    """A time without stored heartbeats: the registry was stopped, frozen or unreachable, or its clock was set."""

    gone_at: Annotated[Time, doc("Its last sign of life before.", TIME)]
    back_at: Annotated[Time, doc("Its first one after.", TIME)]
    held_until: Annotated[Time, doc("Until then, silent instances kept their state.", TIME)]

    @classmethod
    def of(cls, hold: Hold) -> Self:
        """As the registry knows it."""
        return cls(gone_at=hold.gone_at, back_at=hold.back_at, held_until=hold.until)

    @property
    def hold(self) -> Hold:
        """The same as the registry knows it."""
        return Hold(self.gone_at, self.back_at, self.held_until)


class Status(Listed):
    """How the controller and its registry are, also while the registry is away."""

    parameters: Annotated[
        dict[str, list[str]],
        doc("By path, the query parameters that release 0.1.0 does not know, and does not refuse either.", {}),
    ] = field(default_factory=dict)
    controller: AboutController
    registry: AboutRegistry
    checks: Annotated[
        list[CheckObject],
        doc("What is known of each part of the controller and of its registry, as `/readyz?verbose` lists it."),
    ] = field(default_factory=list)
    settings: RegistrySettings
    auth: Annotated[AuthOfStatus | None, doc("Null where no check is built in.")]
    controllers: Annotated[
        list[SharingController],
        doc(
            "The living controllers that share the registry, with this one; empty where none can, or where another "
            "controller keeps the registry."
        ),
    ]
    outages: Annotated[
        list[OutageObject] | None,
        doc(
            "The outages of the registry in the last 30 days, at most 100, the newest last. Null while they are not "
            "known."
        ),
    ] = None
    connections: Annotated[Connections | None, doc("Null where the controller runs inside another application.")]
    readers_dropped: Annotated[
        Count,
        doc("How many connections were closed since the start because the peer did not take a list or a watch.", 0),
    ]
    tls: Annotated[Tls | None, doc("Null where the controller does not listen with TLS.")]
    models: Annotated[list[ModelCounts] | None, doc("In order of model_name; null while the registry cannot be read.")]
    watchers: Annotated[Count, doc("How many watches this controller serves.", 0)]
    last_event_id: Annotated[Count | None, doc("The id of the newest event; null while it is not known.", 42)]

    @property
    def is_remote(self) -> bool:
        """Whether the controller forwards to others."""
        return self.registry.kind == "remote"

    @property
    def heartbeat_timeout_secs(self) -> float | None:
        """None where another controller keeps the registry."""
        return self.settings.heartbeat_timeout_secs or None

    @property
    def heartbeat_interval_secs(self) -> float | None:
        """The same."""
        return self.settings.heartbeat_interval_secs or None

    @property
    def records(self) -> list[ControllerRecord]:
        """The living controllers that share the registry, as records of the registry."""
        return [controller.record for controller in self.controllers]

    @property
    def holds(self) -> list[Hold]:
        """The outages of the registry, as it knows them; none while they are not known."""
        return [outage.hold for outage in self.outages or ()]

    @property
    def counts(self) -> dict[str, ModelCounts]:
        """By model; empty while the registry cannot be read."""
        return {counts.model_name: counts for counts in self.models or ()}


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
