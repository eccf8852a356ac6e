"""Rules about controllers: whether they answer, how their registries are, and the way to them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Evidence, Finding, Scope, Severity, controller_rule, rule
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.instances import duration_text
from dbgpt_ctl.cli.parsing.references import reference_of
from dbgpt_ctl.errors import (
    ControllerError,
    ControllerFailed,
    ControllerRefused,
    ControllerUnreachable,
    ErrorKind,
    NotAllowed,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Facts
    from dbgpt_ctl.client.models import ControllerStatus, KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey

PRECEDENCE: tuple[type[ControllerError], ...] = (NotAllowed, ControllerRefused, ControllerUnreachable, ControllerFailed)
"""Of several controllers without an answer the first of these sets the exit code: as for any verb, a 4xx ends the call,
and a controller that is away counts before one that failed.
"""
SETTLED = timedelta(seconds=5)
"""Two lists are not read at the same time: an instance that is younger may be in one of them only."""
SKEW = timedelta(seconds=5)
SERVICE_BEAT_SECS = 20
"""DB-GPT hard-codes this interval for WorkerManager@service."""
NEARLY_FULL = 0.9
_SILENT = frozenset({ErrorKind.NO_ANSWER})
_UNAVAILABLE = frozenset({ErrorKind.UNAVAILABLE})
_CLOSED = frozenset({ErrorKind.NOT_ALLOWED})
_WITHOUT_V1 = frozenset({ErrorKind.NOT_SUPPORTED})
_OTHER_KINDS = frozenset(ErrorKind) - _SILENT - _UNAVAILABLE - _CLOSED - _WITHOUT_V1
_ALL_BUT_LIST = Scope.MODEL | Scope.CLUSTER | Scope.OVERVIEW


@rule(
    "controller-unreachable",
    fix="start it, or correct --address; ctl health -a URL shows when it is back",
    scope=_ALL_BUT_LIST,
)
def unreachable(facts: Facts) -> Iterator[Finding]:
    """Nothing answers at the address of a controller."""
    yield from _without_answer(facts, _SILENT, "{} not answer", "does", "do")


@rule(
    "controller-unavailable",
    fix="wait some seconds; ctl health -a URL shows when it is ready, its log says why not",
    scope=_ALL_BUT_LIST,
)
def unavailable(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 502, 503 or 504: it is about to end, or its registry is away."""
    yield from _without_answer(facts, _UNAVAILABLE, "{} there, and cannot serve now", "is", "are")


@rule(
    "not-allowed",
    fix="give a token that it takes: CTL_TOKEN, the --token-file of a context, or user:token@ in --address",
    scope=_ALL_BUT_LIST,
)
def not_allowed(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 401 or 403: it wants a token, or another one."""
    yield from _without_answer(facts, _CLOSED, "{} not let you in", "does", "do")


@rule("controller-failed", fix="see its log; if no controller is there, correct --address", scope=_ALL_BUT_LIST)
def failed(facts: Facts) -> Iterator[Finding]:
    """A controller answers with an error such as 500, or what answers is not a controller."""
    yield from _without_answer(facts, _OTHER_KINDS, "{} with an error", "answers", "answer")


@rule("proxy", fix="add the hosts of controllers and workers to no_proxy where API servers and workers run")
def proxied(facts: Facts) -> Iterator[Finding]:
    """DB-GPT's calls to the controller go to a proxy: http_proxy is set, and no_proxy does not name the controller.

    DB-GPT's clients obey these variables; `ctl` does not, so it reaches the controller and an API server does not.
    """
    if facts.proxies:
        evidence = tuple(
            Evidence(f"{found.variable}={found.proxy} takes the calls to {found.controller}") for found in facts.proxies
        )
        hosts = ",".join(dict.fromkeys(found.host for found in facts.proxies))
        fix = f'where API servers and workers run with the same variables: export no_proxy="$no_proxy,{hosts}"'
        yield Finding(Severity.WARNING, "proxy variables redirect DB-GPT's calls (ctl ignores them)", evidence, fix)


@rule("controllers-disagree", fix="give all controllers the same registry (ctl serve --registry database), or one URL")
def disagree(facts: Facts) -> Iterator[Finding]:
    """The controllers of --address do not list the same instances: each has a registry of its own."""
    evidence: list[Evidence] = []
    keys: set[InstanceKey] = set()
    settled = {
        instance.key
        for controller in facts.answering
        for instance in controller.instances
        if _is_settled(controller, instance) and facts.model_filter.matches(instance.model_name)
    }
    for controller in facts.answering:
        missing = sorted(settled - {instance.key for instance in controller.instances})
        if missing:
            keys.update(missing)
            home = f" (registry {_home(controller.status)})" if controller.status else ""
            example = reference_of(missing[0])
            detail = f"lacks {len(missing)} that others list, such as {example}{home}"
            evidence.append(Evidence(detail, controller.url))
    if evidence:
        noun = "instance is" if len(keys) == 1 else "instances are"
        summary = f"the controllers do not list the same: {len(keys)} {noun} at some of them only"
        yield Finding(Severity.ERROR, summary, tuple(evidence), keys=tuple(sorted(keys)))


@rule(
    "separate-registries",
    fix="run them with --registry database on one database, or give clients one URL only",
    scope=_ALL_BUT_LIST,
)
def separate(facts: Facts) -> Iterator[Finding]:
    """Several controllers, and one keeps its registry in memory: what registers there the others never see."""
    reporting = _reporting(facts)
    if len(facts.answering) > 1 and any(status.kind == "embedded" for _, status in reporting):
        yield Finding(Severity.ERROR, "several controllers, but not one registry", (_homes(reporting),))


@rule(
    "different-registries",
    fix="compare their registry_ settings; two names of one database are no fault",
    scope=Scope.OVERVIEW,
)
def different(facts: Facts) -> Iterator[Finding]:
    """The controllers name different databases as their registry; `controllers-disagree` shows whether they are."""
    reporting = _reporting(facts)
    homes = {(status.kind, status.place) for _, status in reporting}
    if len(homes) > 1 and all(status.kind != "embedded" for _, status in reporting):
        yield Finding(Severity.WARNING, "the controllers name different registries", (_homes(reporting),))


@controller_rule(
    "registry-stale",
    Severity.ERROR,
    "the registry is away, and lists may be out of date",
    fix="bring the database back; nothing else is needed, heartbeats and lists recover by themselves",
    scope=_ALL_BUT_LIST | Scope.LIST,
)
def stale(controller: ControllerFacts) -> str:
    """The registry's database is away: lists are the last known ones, and nothing can register."""
    if controller.stale_since is None:
        return ""
    held = f"this is what it held {controller.ago(controller.stale_since)}"
    return f"its registry is away; {held}{_reason(controller)}"


@controller_rule(
    "states-held",
    Severity.WARNING,
    "the registry was away, and some states are held as they were",
    fix="wait: it ends by itself; then an instance without a new heartbeat is unhealthy",
    scope=_ALL_BUT_LIST | Scope.LIST,
)
def held(controller: ControllerFacts) -> str:
    """The registry was away: for one heartbeat timeout some instances are shown as they were before."""
    if controller.held_until is None or controller.time is None:
        return ""
    left = max(0, round((controller.held_until - controller.time).total_seconds()))
    until = f"until {controller.held_until:%H:%M:%S} UTC"
    return f"its registry was away; for {left}s more, {until}, some instances are shown as they were before"


@controller_rule(
    "registry-not-ready",
    Severity.ERROR,
    "a registry cannot be read",
    fix="bring its database back; the controller's log says more",
    scope=_ALL_BUT_LIST,
)
def not_ready(controller: ControllerFacts) -> str:
    """The controller answers, and its registry cannot be read: lists fail."""
    is_ready = controller.status is None or controller.status.ready
    return "" if is_ready else f"its registry cannot be read{_reason(controller)}"


@controller_rule(
    "registry-degraded", Severity.WARNING, "a registry is degraded", fix="see the controller's log", scope=_ALL_BUT_LIST
)
def degraded(controller: ControllerFacts) -> str:
    """The controller answers, and reports itself that something is wrong with its registry."""
    status, is_known = controller.status, controller.stale_since or controller.held_until
    return escaped(status.reason) if status and status.ready and status.reason and not is_known else ""


@controller_rule(
    "controller-leaving",
    Severity.WARNING,
    "a controller is about to end",
    fix="nothing, if it is being restarted; else start ctl serve again",
    scope=_ALL_BUT_LIST,
)
def leaving(controller: ControllerFacts) -> str:
    """A controller was stopped, and serves on until its clients have moved to another one."""
    return "it is leaving" if controller.status and controller.status.leaving else ""


@controller_rule(
    "clock",
    Severity.WARNING,
    "clocks differ",
    fix="let both machines keep their time by NTP; with several database hosts: ctl db check",
)
def clock(controller: ControllerFacts) -> str:
    """The registry's clock and this machine's differ. States are derived by the registry's, so they are right."""
    skew = controller.skew
    if skew is None or abs(skew) <= SKEW:
        return ""
    direction = "ahead of" if skew > timedelta() else "behind"
    return f"{duration_text(abs(skew).total_seconds())} {direction} this machine"


@controller_rule(
    "timeout-short",
    Severity.WARNING,
    "the heartbeat timeout is too short for DB-GPT's workers",
    fix="raise --heartbeat-timeout-secs well above both, such as 60",
)
def short_timeout(controller: ControllerFacts) -> str:
    """The heartbeat timeout is not longer than the heartbeat interval: live workers expire between two heartbeats."""
    timeout = controller.status.heartbeat_timeout_secs if controller.status else None
    interval = (controller.status.heartbeat_interval_secs if controller.status else None) or 0.0
    if timeout is None or timeout > max(interval, SERVICE_BEAT_SECS):
        return ""
    service = f", WorkerManager@service every {SERVICE_BEAT_SECS}s" if timeout > interval else ""
    return f"heartbeat_timeout_secs {timeout:g}; workers beat every {interval:g}s{service}"


@rule("registry-nearly-full", fix="ctl models prune --older-than 1d, or a higher --max-instances", scope=Scope.CLUSTER)
def nearly_full(facts: Facts) -> Iterator[Finding]:
    """The registry is nearly full: when it is full, new instances are refused, and their workers end."""
    for controller, status in _reporting(facts):
        count, limit = len(controller.instances), status.max_instances
        if limit and count >= NEARLY_FULL * limit:
            severity = Severity.ERROR if count >= limit else Severity.WARNING
            evidence = (Evidence(f"{count} of {limit}", controller.url),)
            yield Finding(severity, "the registry is full or nearly full", evidence)


@rule("secrets-open", fix="chmod 600 FILE", scope=Scope.CLUSTER)
def open_secrets(facts: Facts) -> Iterator[Finding]:
    """A file with a password or a token can be read by others."""
    if facts.exposed_files:
        evidence = tuple(Evidence(f"mode {file.mode:04o}", file.path) for file in facts.exposed_files)
        fix = f"chmod 600 {' '.join(file.path for file in facts.exposed_files)}"
        yield Finding(Severity.WARNING, "a file with secrets can be read by others", evidence, fix)


@controller_rule(
    "stock-controller",
    Severity.INFO,
    "no /api/v1 here: times and causes of drains, deregisters and expiries are unknown",
    fix="ctl serve in its place records all of that (docs/moving-from-dbgpt.md)",
    scope=_ALL_BUT_LIST,
)
def stock(controller: ControllerFacts) -> str:
    """DB-GPT's own controller, or an older ctl, answers: it records neither times nor reasons of what happened."""
    return "it has no /api/v1" if controller.is_stock or _kind(controller) in _WITHOUT_V1 else ""


def heading_without_answer(controllers: Sequence[ControllerFacts]) -> str:
    """The heading of a report without any facts: why no controller gave an answer."""
    kinds = {_kind(controller) for controller in controllers}
    if kinds <= _SILENT:
        return "no controller answers"
    if kinds <= _CLOSED:
        return "no controller lets you in"
    if kinds <= _SILENT | _UNAVAILABLE:
        return "no controller can serve now"
    return "no controller lists its instances"


def exit_code_of(controllers: Sequence[ControllerFacts]) -> int:
    """The exit code of any other verb that none of these controllers served."""
    codes = {controller.failure.code for controller in controllers if controller.failure}
    return next((error.exit_code for error in PRECEDENCE if error.code in codes), ControllerError.exit_code)


def _kind(controller: ControllerFacts) -> ErrorKind | None:
    return controller.failure.kind if controller.failure else None


def _without_answer(
    facts: Facts, kinds: Collection[ErrorKind], summary: str, verb: str, plural: str
) -> Iterator[Finding]:
    failures = [
        (controller, controller.failure)
        for controller in facts.controllers
        if controller.failure and controller.failure.kind in kinds
    ]
    if failures:
        one = f"{failures[0][0].url} {verb}"
        many = f"{len(failures)} of {len(facts.controllers)} controllers {plural}"
        evidence = tuple(Evidence(failure.detail, controller.url) for controller, failure in failures)
        yield Finding(Severity.ERROR, summary.format(one if len(failures) == 1 else many), evidence)


def _reporting(facts: Facts) -> list[tuple[ControllerFacts, ControllerStatus]]:
    """The controllers that report their status."""
    return [(controller, controller.status) for controller in facts.answering if controller.status]


def _home(status: ControllerStatus) -> str:
    return escaped(f"{status.kind} {status.place}" if status.place else status.kind)


def _homes(reporting: Sequence[tuple[ControllerFacts, ControllerStatus]]) -> Evidence:
    homes = ", ".join(f"{escaped(controller.url)}: {_home(status)}" for controller, status in reporting)
    return Evidence(f"do not share one registry ({homes})", "the controllers")


def _is_settled(controller: ControllerFacts, instance: KnownInstance) -> bool:
    """Whether it is registered for long enough to be in every list."""
    if instance.registered_at is None or controller.time is None:
        return True
    return controller.time - instance.registered_at > SETTLED


def _reason(controller: ControllerFacts) -> str:
    reason = controller.status.reason if controller.status else None
    return f" ({escaped(reason)})" if reason else ""
