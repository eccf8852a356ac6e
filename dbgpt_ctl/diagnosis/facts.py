"""The data of a diagnosis: `Facts`, what was observed of a cluster, and `Finding`, what a rule concludes from them.

No I/O. Times are aware.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields, replace
from enum import Flag, StrEnum, auto
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.diagnosis.refused import RefusedHeartbeats
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.text.times import age_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.filters import ModelFilter
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.domain.ping_results import Ping
    from dbgpt_ctl.errors import ControllerError
    from dbgpt_ctl.wire.status import ModelCounts, Status

F = TypeVar("F")
"""The kind of facts that a rule judges: `Facts`, or for `ctl db check` those of a database."""


class ProbeOutcome(StrEnum):
    """The result of a connection to a worker's address."""

    WORKER = "worker"
    REFUSED = "refused"
    SILENT = "silent"
    RESET = "reset"
    """The connection is closed without an answer."""
    OTHER = "other"
    """A server answers, and it is not a DB-GPT worker."""
    UNKNOWN_NAME = "unknown_name"
    """The host name cannot be looked up from here."""
    FAILED = "failed"
    """The address cannot be reached from here for another reason, such as no route."""


class Probe(NamedTuple):
    """`detail`: one line, for people."""

    outcome: ProbeOutcome
    detail: str


class Endpoint(NamedTuple):
    """A host as it is registered, and a port."""

    host: str
    port: int


@dataclass(slots=True)
class ObservedInstance(KnownInstance):
    """One instance as a controller reports it, and what was observed of it beside that."""

    controller: ControllerFacts = field(kw_only=True, repr=False)
    probe: Probe | None = None
    ping: Ping | None = None
    expiries: int = 0
    """How often it expired within the last day, where that was asked."""

    @classmethod
    def of(cls, known: KnownInstance, controller: ControllerFacts, **observed: Any) -> ObservedInstance:
        """The same instance with what else was observed of it: `probe`, `ping`, `expiries`."""
        facts = {fact.name: getattr(known, fact.name) for fact in fields(known)}
        return cls(**facts, controller=controller, **observed)

    @property
    def reference(self) -> str:
        """Its reference, escaped."""
        return reference_of(self.key)

    @property
    def endpoint(self) -> Endpoint:
        """The address that it registered."""
        return Endpoint(self.host, self.port)

    @property
    def failed_probe(self) -> Probe | None:
        """The probe, if no worker answered it. If a ping could connect where the probe was silent, the ping says more:
        the address can be reached, and the worker does not answer.
        """
        probe = self.probe
        if probe is None or probe.outcome is ProbeOutcome.WORKER:
            return None
        connects = self.ping is not None and self.ping.connect is not None
        return None if connects and probe.outcome is ProbeOutcome.SILENT else probe

    @property
    def is_healthy(self) -> bool:
        """Whether it counts as alive, drained or not; a held one does, though its own heartbeat is too old."""
        return self.state is InstanceState.HEALTHY

    def ago(self, time: datetime | None) -> str:
        """`12s ago`, by the registry's clock; `never` for None."""
        return self.controller.ago(time)


@dataclass(frozen=True, slots=True, eq=False)
class ControllerFacts:
    """One controller: what it reports, or the error in place of an answer."""

    url: str
    failure: ControllerError | None = None
    time: datetime | None = None
    """The registry's time of the answer: ages count against it."""
    skew: timedelta | None = None
    """The registry's clock minus this machine's; positive: the registry is ahead. None where it is unknown."""
    latency: float | None = None
    """Seconds that the call for its status took."""
    status: Status | None = None
    """None for DB-GPT's own controller, which has no /api/v1."""
    stale_since: datetime | None = None
    held_until: datetime | None = None
    heartbeat_timeouts_secs: tuple[float, ...] = ()
    """As in a list: those of all controllers of its registry, where they differ."""
    instances: tuple[KnownInstance, ...] = field(default=(), repr=False)

    @classmethod
    def of_status(
        cls,
        url: str,
        status: Status,
        *,
        latency: float | None = None,
        instances: tuple[KnownInstance, ...] = (),
    ) -> ControllerFacts:
        """What a controller reports of itself in its status."""
        return cls(
            url=url,
            time=status.time,
            latency=latency,
            status=status,
            stale_since=status.stale_since,
            held_until=status.held_until,
            instances=instances,
        )

    @property
    def host(self) -> str:
        """The host of its URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def as_of(self) -> datetime | None:
        """The registry's time of the states: a stale list shows them as they were."""
        return self.stale_since or self.time

    @property
    def answers(self) -> bool:
        """Whether its report could be read."""
        return self.failure is None

    @property
    def is_stock(self) -> bool:
        """It answers, and has no /api/v1: its instances have DB-GPT's nine keys only."""
        return self.answers and self.status is None

    def ago(self, time: datetime | None) -> str:
        """`12s ago`, by the registry's clock; `never` for None."""
        if time is None:
            return "never"
        return age_text(time, self.time) if self.time else "some time ago"


class ProxiedController(NamedTuple):
    """A controller that DB-GPT's clients would call through the environment's proxy. Holds no secrets."""

    controller: str
    host: str
    variable: str
    proxy: str


class ExposedFile(NamedTuple):
    """A file with secrets that others than its owner may read."""

    path: str
    mode: int


@dataclass(frozen=True, eq=False)
class Facts:
    """What was observed of a cluster. `model_filter` is empty where the whole cluster is meant."""

    model_filter: ModelFilter
    controllers: tuple[ControllerFacts, ...]
    models: frozenset[str] = frozenset()
    """Every NAME@TYPE that any controller has, whether it passes the filter or not."""
    counts: Mapping[str, ModelCounts] | None = None
    """Counts by model, where instances are counted without a list of them all (`ctl status`)."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """By code: to how many more instances a rule applies than the controllers have here (`overview.sample`)."""
    probes: Mapping[Endpoint, Probe] = field(default_factory=dict)
    unprobed: int = 0
    """Addresses that were left out because there are too many."""
    pings: Mapping[InstanceKey, Ping] = field(default_factory=dict)
    """Of routable instances, where a ping was asked for."""
    unpinged: int = 0
    """Routable instances that were left out because there are too many."""
    expiries: Mapping[InstanceKey, int] = field(default_factory=dict)
    """How often instances expired within the last day."""
    proxies: tuple[ProxiedController, ...] = ()
    exposed_files: tuple[ExposedFile, ...] = ()
    events: tuple[Event, ...] = ()
    """The past of a model that has no instance any more, oldest first."""
    registered_from: Mapping[InstanceKey, str] = field(default_factory=dict)
    """Of instances with a loopback host at a controller that is called by loopback: the address of the worker that
    registered one, if that is known and is another one.
    """

    @cached_property
    def answering(self) -> tuple[ControllerFacts, ...]:
        """The controllers whose report could be read."""
        return tuple(controller for controller in self.controllers if controller.answers)

    @cached_property
    def are_stale(self) -> bool:
        """Whether nothing is known of the instances but last known lists."""
        return bool(self.answering) and all(controller.stale_since for controller in self.answering)

    @property
    def reporting(self) -> list[tuple[ControllerFacts, Status]]:
        """The controllers that report their status."""
        return [(controller, controller.status) for controller in self.answering if controller.status]

    @cached_property
    def instances(self) -> tuple[ObservedInstance, ...]:
        """Those that pass the filter, once each, in order of identity: as the first controller reports it that sends
        requests there, if there is one, else the first that lists it; a stale list counts only where no other has it.
        `reports` shows where controllers disagree.
        """
        return tuple(
            max(reports, key=lambda report: (report.controller.stale_since is None, report.routable))
            for reports in self.reports.values()
        )

    @cached_property
    def refused(self) -> RefusedHeartbeats:
        """The workers that the controllers refuse."""
        return RefusedHeartbeats((controller.url, status) for controller, status in self.reporting)

    @cached_property
    def routed(self) -> int:
        """How many instances get requests, whichever controller is asked."""
        return sum(all(report.routable for report in reports) for reports in self.reports.values())

    @cached_property
    def reports(self) -> Mapping[InstanceKey, Sequence[ObservedInstance]]:
        """Each instance that passes the filter, as each controller reports it, in the order of the controllers."""
        reports: defaultdict[InstanceKey, list[ObservedInstance]] = defaultdict(list)
        for controller in self.answering:
            for known in controller.instances:
                if self.model_filter.matches(known.model_name):
                    probe = self.probes.get(Endpoint(known.host, known.port))
                    observed = {"ping": self.pings.get(known.key), "expiries": self.expiries.get(known.key, 0)}
                    reports[known.key].append(ObservedInstance.of(known, controller, probe=probe, **observed))
        return {key: reports[key] for key in sorted(reports)}

    @cached_property
    def by_model(self) -> Mapping[str, tuple[ObservedInstance, ...]]:
        """`instances`, by NAME@TYPE."""
        groups = groupby(self.instances, key=lambda instance: instance.model_name)
        return {name: tuple(instances) for name, instances in groups}

    @property
    def counts_by_model(self) -> Mapping[str, ModelCounts]:
        """How many instances of each model there are, by state."""
        if self.counts is not None:
            return self.counts
        from dbgpt_ctl.client.status import counts_of  # imports msgspec, which most commands do without

        return {name: counts_of(instances, name) for name, instances in self.by_model.items()}


class Severity(StrEnum):
    """`error`: requests fail, or will. `warning`: they may, or something is hidden. `info`: an operator's wish."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Evidence(NamedTuple):
    """One line for people. `subject`: the controller, model or instance that `detail` is about; may be empty."""

    detail: str
    subject: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}" if self.subject else self.detail


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One cause, with all instances that it concerns. Texts are one line each, for people; names in them are escaped.

    `code` and `fix` are the rule's where the rule leaves them empty.
    """

    severity: Severity
    summary: str
    evidence: tuple[Evidence, ...] = ()
    fix: str = ""
    keys: tuple[InstanceKey, ...] = ()
    code: str = ""
    more: int = 0
    """Pieces of evidence that are left out."""

    @property
    def is_info(self) -> bool:
        """Whether it is about what an operator wanted, and no warning."""
        return self.severity is Severity.INFO

    @property
    def lines(self) -> list[str]:
        """A line with the code for each piece of evidence, after the summary where that is about the same subject."""
        return [
            f"{self.summary}: {evidence.detail} [{self.code}]"
            if evidence.subject and self.summary.startswith(f"{evidence.subject} ")
            else f"{evidence} [{self.code}]"
            for evidence in self.evidence
        ]


class Scope(Flag):
    """The commands that a rule serves."""

    MODEL = auto()
    """`ctl why`."""
    CLUSTER = auto()
    """`ctl doctor`."""
    OVERVIEW = auto()
    """`ctl status`."""
    LIST = auto()
    """`ctl models list` and its --watch: what is to be known before the list is trusted."""


ALL_BUT_LIST = Scope.MODEL | Scope.CLUSTER | Scope.OVERVIEW
ANY_SCOPE = ALL_BUT_LIST | Scope.LIST


@dataclass(frozen=True, slots=True, eq=False)
class Rule(Generic[F]):
    """A symptom, how it is recognised in the facts, and the remedy. `code` is stable, for scripts."""

    code: str
    fix: str
    check: Callable[[F], Iterable[Finding]]
    scope: Scope
    of_instance: Callable[[ObservedInstance], str] | None = None
    """The evidence of one instance, or "", for a rule that looks at each one by itself."""

    @property
    def symptom(self) -> str:
        """The first paragraph of the docstring of `check`, for people."""
        return " ".join((self.check.__doc__ or "").partition("\n\n")[0].split())

    def __call__(self, facts: F) -> Iterator[Finding]:
        """Its findings."""
        for finding in self.check(facts):
            yield replace(finding, code=self.code, fix=finding.fix or self.fix)


def rule(
    code: str, *, fix: str, scope: Scope = Scope.MODEL | Scope.CLUSTER
) -> Callable[[Callable[[F], Iterable[Finding]]], Rule[F]]:
    """Makes a rule of a function; the first paragraph of its docstring is the symptom, for people."""
    return lambda check: Rule(code, fix, check, scope)


def controller_rule(
    code: str, severity: Severity, summary: str, *, fix: str, scope: Scope = Scope.MODEL | Scope.CLUSTER
) -> Callable[[Callable[[ControllerFacts], str]], Rule[Facts]]:
    """Makes a rule of a function that returns the evidence of one controller, or "" where it does not apply.

    All controllers with the same cause are one finding.
    """

    def make(detail: Callable[[ControllerFacts], str]) -> Rule[Facts]:
        def check(facts: Facts) -> Iterator[Finding]:
            details = ((controller.url, detail(controller)) for controller in facts.controllers)
            evidence = tuple(Evidence(text, url) for url, text in details if text)
            if evidence:
                yield Finding(severity, summary, evidence)

        check.__doc__ = detail.__doc__
        return Rule(code, fix, check, scope)

    return make


def instance_rule(
    code: str,
    severity: Severity,
    one: str,
    many: str,
    *,
    fix: str,
    fix_of: Callable[[Sequence[ObservedInstance]], str] = lambda instances: "",  # noqa: ARG005
    scope: Scope = Scope.MODEL | Scope.CLUSTER,
) -> Callable[[Callable[[ObservedInstance], str]], Rule[Facts]]:
    """Makes a rule of a function that returns the evidence of one instance, or "" where it does not apply.

    All instances with the same cause are one finding: its summary is `one`, or `many` with the number `{n}`. `fix_of`
    may return a fix that names these instances.
    """

    def make(detail: Callable[[ObservedInstance], str]) -> Rule[Facts]:
        def check(facts: Facts) -> Iterator[Finding]:
            found = [(instance, text) for instance in facts.instances if (text := detail(instance))]
            if found:
                instances = [instance for instance, _ in found]
                more = facts.left_out.get(code, 0)
                number = len(found) + more
                summary = one if number == 1 else many.format(n=number)
                evidence = tuple(Evidence(text, instance.reference) for instance, text in found)
                keys = tuple(instance.key for instance in instances)
                yield Finding(severity, summary, evidence, fix_of(instances), keys, more=more)

        check.__doc__ = detail.__doc__
        return Rule(code, fix, check, scope, detail)

    return make


def diagnose(rules: Iterable[Rule[F]], facts: F, scope: Scope = ANY_SCOPE) -> list[Finding]:
    """What the rules of a scope find: errors, then warnings, then infos; among equals in the order of the rules."""
    findings = [finding for rule in rules if rule.scope & scope for finding in rule(facts)]
    return sorted(findings, key=lambda finding: list(Severity).index(finding.severity))
