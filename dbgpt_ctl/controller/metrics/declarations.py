"""Every metric of a controller, declared once: the collector, docs/metrics.md and the tests of rules and dashboard read
this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import Mode, Reason
from dbgpt_ctl.databases import REGISTRIES
from dbgpt_ctl.domain.events import ABSENT, EXPIRE
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping


PREFIX = "dbgpt_controller_"
MAX_MODEL_NAMES = 1000
"""Each series costs memory in Prometheus for hours, and a stranger may register any name."""
OTHER = "other"
CONSOLE = "console"
"""The operation of all files of the console page."""
"""The label of what has no series of its own: the models beyond MAX_MODEL_NAMES, and requests to other paths."""


class MetricKind(StrEnum):
    """The type of a metric, as Prometheus calls it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class MetricScope(StrEnum):
    """How the values of several controllers fit together."""

    REGISTRY = "registry"
    """All controllers of one registry have the same value, give or take a few seconds: aggregate with `max by`."""
    CONTROLLER = "controller"
    """Each controller has a value of its own. Counters and histograms: aggregate with `sum(rate())`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is without PREFIX, with the unit, and with `_total` for a counter. `help` is one sentence. `buckets` are
    the upper bounds of a histogram, without infinity. `values` are all that a label can have, by the name of the label;
    a label that is not in it, such as model_name, takes what clusters and settings bring.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    scope: MetricScope = MetricScope.CONTROLLER
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name in an exposition and in queries; a histogram adds `_bucket`, `_sum` and `_count`."""
        return PREFIX + self.name


Values = tuple[str, ...] | None
"""The values of a label, or None for one whose values are not fixed."""


def _of_registry(name: str, help: str, /, **labels: Values) -> Metric:  # noqa: A002 - the word of Prometheus
    return _metric(name, MetricKind.GAUGE, help, labels, scope=MetricScope.REGISTRY)


def _gauge(name: str, help: str, /, **labels: Values) -> Metric:  # noqa: A002
    return _metric(name, MetricKind.GAUGE, help, labels)


def _counter(name: str, help: str, /, **labels: Values) -> Metric:  # noqa: A002
    return _metric(name, MetricKind.COUNTER, help, labels)


def _histogram(name: str, help: str, buckets: tuple[float, ...], /, **labels: Values) -> Metric:  # noqa: A002
    return _metric(name, MetricKind.HISTOGRAM, help, labels, buckets=buckets)


def _metric(
    name: str,
    kind: MetricKind,
    help: str,  # noqa: A002
    labels: Mapping[str, Values],
    *,
    buckets: tuple[float, ...] = (),
    scope: MetricScope = MetricScope.CONTROLLER,
) -> Metric:
    values = {label: fixed for label, fixed in labels.items() if fixed is not None}
    return Metric(name, kind, help, tuple(labels), buckets, scope, values)


_DURATIONS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. A DB-GPT client gives up after 5 s."""
_BATCHES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)

STATES = tuple(state.value for state in InstanceState)
OPERATIONS = (
    *("heartbeat", "list", "get", "register", "deregister", "drain", "undrain", "prune", "events", "watch"),
    *("status", "auth", "diagnosis", "settings", "commands", "session", "sign_in", "sign_out"),
    *("health", "livez", "readyz", "metrics", CONSOLE, OTHER),
)
_TO = (*STATES, ABSENT, "drained", "undrained")
_CAUSES = ("register", "heartbeat", "deregister", "drain", "undrain", "prune", EXPIRE)
_REASONS = tuple(reason.value for reason in Reason if reason.is_refusal)

INSTANCES = _of_registry(
    "instances", "Instances in the lists of the registry, by model and state.", model_name=None, state=STATES
)
INSTANCES_ROUTABLE = _of_registry(
    "instances_routable", "Instances that get requests of API servers: healthy and not drained.", model_name=None
)
INSTANCES_DRAINED = _of_registry("instances_drained", "Instances that are drained, in any state.", model_name=None)
OLDEST_DRAIN = _of_registry(
    "oldest_drain_timestamp_seconds",
    "When the oldest drain of a model began, as a Unix time. A model without a drained instance has no series.",
    model_name=None,
)
MODEL_NAMES_IN_OTHER = _of_registry(
    "model_names_in_other",
    f"Models that share the name `{OTHER}`, because at most {MAX_MODEL_NAMES:,} have series of their own.",
)
REGISTRY_INSTANCES = _of_registry(
    "registry_instances",
    "Instances that are stored: those in the lists, and removed ones, which make room for new ones when it is needed.",
)
REGISTRY_INSTANCES_LIMIT = _of_registry(
    "registry_instances_limit",
    "The limit of registry_instances; new instances beyond it are refused (setting max_instances).",
)

BUILD_INFO = _gauge(
    "build_info",
    "Always 1; the labels say what runs here.",
    version=None,
    registry=REGISTRIES,
)
REGISTRY_READY = _gauge("registry_ready", "1 while this controller can answer lists, else 0.")
REGISTRY_STALE = _gauge(
    "registry_stale", "1 while lists come from memory, because the storage of the registry cannot be read, else 0."
)
REGISTRY_HELD_INSTANCES = _gauge(
    "registry_held_instances",
    "Instances that sent no heartbeat in time, and count as alive because the registry itself was away.",
)
REGISTRY_WAITING_CALLS = _gauge(
    "registry_waiting_calls",
    "Heartbeats and other calls that change instances, and wait for a transaction of the database.",
)
LEAVING = _gauge("leaving", "1 while this controller is being stopped and its health answers 503, else 0.")
WATCHERS = _gauge("watchers", "Watches that are open.")
WATCHERS_LIMIT = _gauge("watchers_limit", "The limit of watchers; more are refused.")
CONNECTIONS = _gauge("connections", "Connections that are open.")
CONNECTIONS_LIMIT = _gauge(
    "connections_limit", "The limit of connections (setting max_connections); idle ones are closed for new ones then."
)
CLOCK_OFFSET = _gauge(
    "clock_offset_seconds",
    "The clock of the database minus the clock of this machine, as measured last; 0 for a registry in memory.",
)
EVENT_LOOP_LAG = _gauge(
    "event_loop_lag_seconds", "The longest delay of the event loop in the last 30 seconds. A request waits as long."
)
CREDENTIAL_EXPIRY = _gauge(
    "credential_expiry_timestamp_seconds",
    "When a token or the certificate expires, as a Unix time. name: that of the token, or tls_cert.",
    kind=("token", "certificate"),
    name=None,
)

REQUESTS = _counter(
    "requests_total", "Requests that were answered, by operation and HTTP status.", operation=OPERATIONS, code=None
)
HEARTBEATS_REFUSED = _counter(
    "heartbeats_refused_total", "Heartbeats that were answered with `false`, because their instance is deregistered."
)
TRANSITIONS = _counter(
    "transitions_total",
    "Changes of the state or the drain of instances, counted by the controller that wrote them into the registry.",
    model_name=None,
    to=_TO,
    cause=_CAUSES,
)
REGISTRY_ERRORS = _counter(
    "registry_errors_total",
    "Errors of the storage. conflict: a transaction is tried again, which is normal. connection: the database does not "
    "answer. damage: its tables are not as they should be. unavailable: the controller behind this one does not "
    "answer.",
    kind=("conflict", "connection", "damage", "unavailable"),
)
AUTH_REFUSALS = _counter(
    "auth_refusals_total",
    "Requests that were refused (mode enforce), or were served and would be refused (mode log), by reason.",
    reason=_REASONS,
    mode=(Mode.LOG.value, Mode.ENFORCE.value),
)
WATCHES_CLOSED = _counter(
    "watches_closed_total",
    "Watches that ended. client: it closed the watch. slow: it read too slowly. refused: its token allows it no more. "
    "leaving: the controller is being stopped.",
    reason=("client", "slow", "refused", "leaving"),
)
CONNECTIONS_CLOSED = _counter(
    "connections_closed_total",
    "Connections that the controller closed. idle: an idle one, to make room for a new one. refused: a new one, for "
    "lack of room. slow: its client took its answer too slowly.",
    reason=("idle", "refused", "slow"),
)
TRACE_SPANS_DROPPED = _counter(
    "trace_spans_dropped_total",
    "Spans of traces that were not kept: a destination failed, or was too slow or full, or callers asked for too many.",
)

REQUEST_DURATION = _histogram(
    "request_duration_seconds",
    "Time from the head of a request until its answer begins to be sent, in seconds.",
    _DURATIONS,
    operation=OPERATIONS,
)
COMMIT_DURATION = _histogram(
    "registry_commit_duration_seconds",
    "Time that a batch of changes takes in the database, with its commit, in seconds.",
    _DURATIONS,
)
BATCH_SIZE = _histogram("registry_batch_size", "Calls that share a batch of changes in the database.", _BATCHES)

METRICS = (
    INSTANCES,
    INSTANCES_ROUTABLE,
    INSTANCES_DRAINED,
    OLDEST_DRAIN,
    MODEL_NAMES_IN_OTHER,
    REGISTRY_INSTANCES,
    REGISTRY_INSTANCES_LIMIT,
    BUILD_INFO,
    REGISTRY_READY,
    REGISTRY_STALE,
    REGISTRY_HELD_INSTANCES,
    REGISTRY_WAITING_CALLS,
    LEAVING,
    WATCHERS,
    WATCHERS_LIMIT,
    CONNECTIONS,
    CONNECTIONS_LIMIT,
    CLOCK_OFFSET,
    EVENT_LOOP_LAG,
    CREDENTIAL_EXPIRY,
    REQUESTS,
    HEARTBEATS_REFUSED,
    TRANSITIONS,
    REGISTRY_ERRORS,
    AUTH_REFUSALS,
    WATCHES_CLOSED,
    CONNECTIONS_CLOSED,
    TRACE_SPANS_DROPPED,
    REQUEST_DURATION,
    COMMIT_DURATION,
    BATCH_SIZE,
)
