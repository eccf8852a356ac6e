"""The rules of a diagnosis, the likeliest cause first: what to check when DB-GPT reports no worker instances.

They are about controllers (do they answer, how are their registries), about models (names, and whether an instance
serves them) and about instances: why one gets no requests (its state), and why its requests fail (its address).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from shlex import quote
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.completion.candidates import TYPES
from dbgpt_ctl.cli.diagnosis.facts import (
    Evidence,
    Facts,
    Finding,
    ProbeOutcome,
    Rule,
    Scope,
    Severity,
    controller_rule,
    diagnose,
    instance_rule,
    rule,
)
from dbgpt_ctl.cli.output.changes import cause_text, change_text
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.cli.output.instances import AS_LAST_KNOWN, counted_text, duration_text, state_text
from dbgpt_ctl.cli.parsing.references import reference_of
from dbgpt_ctl.cli.parsing.suggestions import nearest
from dbgpt_ctl.domain.controllers import setting_differences
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import ErrorKind, FailureCause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, ObservedInstance
    from dbgpt_ctl.client.responses import ControllerStatus, KnownInstance, ModelCounts
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import InstanceKey

SETTLED = timedelta(seconds=5)
"""Two lists are not read at the same time: an instance that is younger may be in one of them only."""
SKEW = timedelta(seconds=5)
SERVICE_BEAT_SECS = 20
"""DB-GPT hard-codes this interval for WorkerManager@service."""
NEARLY_FULL = 0.9
LATEST = 3
"""Events that are shown of a model's past."""
RESTARTED = timedelta(minutes=10)
"""A worker that comes back under another address registers within this time of its last heartbeat."""
LONG_DRAIN = timedelta(hours=24)
DEFAULT_TIMEOUT_SECS = 60.0
"""The heartbeat timeout where the controller does not report it."""
MANY_FLAPS = 3
FEW = 3
"""A fix names at most this many instances."""
_ALL_BUT_LIST = Scope.MODEL | Scope.CLUSTER | Scope.OVERVIEW
_DOCKER = ip_network("172.17.0.0/16")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")
_REGISTER_HOST = "set the worker's worker_register_host to an address that API servers can reach, and restart it"


@rule(
    "controller-unreachable",
    fix="start it, or correct --address; ctl health -a URL shows when it is back",
    scope=_ALL_BUT_LIST,
)
def unreachable(facts: Facts) -> Iterator[Finding]:
    """A controller does not answer, for a reason that has no line of its own here."""
    yield from _without_answer(facts, {ErrorKind.NO_ANSWER}, "{} not answer", "does", "do")


def _cause_rule(cause: FailureCause, summary: str, symptom: str) -> Rule[Facts]:
    """The rule for controllers that give no answer because of `cause`."""

    def detail(controller: ControllerFacts) -> str:
        return controller.failure.detail if controller.failure and controller.failure.cause is cause else ""

    detail.__doc__ = symptom
    return controller_rule(cause.value, Severity.ERROR, summary, fix=cause.fix, scope=_ALL_BUT_LIST)(detail)


refuses = _cause_rule(
    FailureCause.REFUSED,
    "a controller refuses connections",
    "Nothing listens at the address of a controller.",
)
unknown_name = _cause_rule(
    FailureCause.NAME_LOOKUP,
    "the name of a controller is not known here",
    "The host name in the address of a controller cannot be looked up.",
)
no_connection = _cause_rule(
    FailureCause.CONNECT_TIMEOUT,
    "no connection to a controller is made in time",
    "No connection to a controller is made in time: packets are lost, or its host is down.",
)
hangs = _cause_rule(
    FailureCause.ANSWER_TIMEOUT,
    "a controller takes connections and does not answer",
    "A controller takes the connection and does not answer in time.",
)
breaks_off = _cause_rule(
    FailureCause.RESET,
    "the connection to a controller breaks",
    "The connection to a controller breaks before an answer is complete.",
)
untrusted = _cause_rule(
    FailureCause.CERTIFICATE_UNTRUSTED,
    "the certificate of a controller is not trusted here",
    "The certificate of a controller is signed by nobody that this machine trusts.",
)
wrong_name = _cause_rule(
    FailureCause.CERTIFICATE_NAME,
    "the certificate of a controller is for another name",
    "The certificate of a controller is for other names than the one in its address.",
)
wrong_date = _cause_rule(
    FailureCause.CERTIFICATE_DATE,
    "the certificate of a controller is not valid today",
    "The certificate of a controller has expired, or is not valid yet.",
)
needs_http = _cause_rule(
    FailureCause.NEEDS_HTTP,
    "a controller is called by TLS and speaks plain HTTP",
    "The address begins with https, and what answers there speaks plain HTTP.",
)
needs_https = _cause_rule(
    FailureCause.NEEDS_HTTPS,
    "a controller is called by plain HTTP and speaks TLS",
    "The address begins with http, and what answers there speaks TLS.",
)
no_handshake = _cause_rule(
    FailureCause.TLS_FAILED,
    "the TLS handshake with a controller fails",
    "The TLS handshake with a controller fails.",
)
foreign = _cause_rule(
    FailureCause.NOT_A_CONTROLLER,
    "what answers is not a controller",
    "Another server answers at the address of a controller, or a proxy with a page of its own.",
)


@rule(
    "controller-unavailable",
    fix="wait some seconds; ctl health -a URL shows when it is ready, its log says why not",
    scope=_ALL_BUT_LIST,
)
def unavailable(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 502, 503 or 504: it is about to end, or its registry is away."""
    yield from _without_answer(facts, {ErrorKind.UNAVAILABLE}, "{} there, and cannot serve now", "is", "are")


@rule(
    "not-allowed",
    fix="give a token that it takes: CTL_TOKEN, the --token-file of a context, or user:token@ in --address",
    scope=_ALL_BUT_LIST,
)
def not_allowed(facts: Facts) -> Iterator[Finding]:
    """A controller, or a proxy before it, answers 401 or 403: it wants a token, or another one."""
    yield from _without_answer(facts, {ErrorKind.NOT_ALLOWED}, "{} not let you in", "does", "do")


@rule("controller-failed", fix="see its log", scope=_ALL_BUT_LIST)
def failed(facts: Facts) -> Iterator[Finding]:
    """A controller answers with an error such as 500."""
    yield from _without_answer(
        facts,
        {ErrorKind.FAILED, ErrorKind.REFUSED, ErrorKind.NOT_FOUND, ErrorKind.STREAM_BROKEN},
        "{} with an error",
        "answers",
        "answer",
    )


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
    current = [controller for controller in facts.answering if controller.stale_since is None]
    settled = {
        instance.key
        for controller in current
        for instance in controller.instances
        if _is_settled(controller, instance) and facts.model_filter.matches(instance.model_name)
    }
    for controller in current:
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
    "settings-differ",
    fix="give all controllers of the registry the same settings, and restart them one at a time (docs/operating.md)",
    scope=_ALL_BUT_LIST,
)
def settings_differ(facts: Facts) -> Iterator[Finding]:
    """The controllers of one registry have different heartbeat timeouts or intervals, so their states differ."""
    differences = [each for _, status in _reporting(facts) for each in setting_differences(status.controllers)]
    details = dict.fromkeys(escaped(difference.line) for difference in differences)  # all controllers report the same
    if details:
        summary = "the controllers of one registry do not have the same settings"
        yield Finding(Severity.WARNING, summary, tuple(map(Evidence, details)))


@rule(
    "states-disagree",
    fix="give all controllers the same heartbeat timeout; if they have, ask again: a state may have changed meanwhile",
)
def states_disagree(facts: Facts) -> Iterator[Finding]:
    """Two controllers give different states for an instance: its requests depend on which controller is asked."""
    torn: dict[InstanceKey, Evidence] = {}
    alike: dict[InstanceKey, Evidence] = {}
    for key, reports in facts.reports.items():
        if len({_comparable(report) for report in reports}) > 1:
            states = ", ".join(f"{state_text(report)} at {_with_timeout(report.controller)}" for report in reports)
            is_torn = len({report.routable for report in reports}) > 1
            (torn if is_torn else alike)[key] = Evidence(states, reports[0].reference)
    for severity, evidence, consequence in (
        (Severity.ERROR, torn, "not all of them send requests there"),
        (Severity.WARNING, alike, "none of them sends requests there"),
    ):
        if evidence:
            noun = "1 instance" if len(evidence) == 1 else f"{len(evidence)} instances"
            summary = f"the controllers give different states for {noun}, and {consequence}"
            yield Finding(severity, summary, tuple(evidence.values()), keys=tuple(evidence))


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
    known = f"this is what was known {controller.ago(controller.stale_since)}"
    return f"its registry is away; {known}{_reason(controller)}"


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
    return f"its registry was away; for {left}s more, {until}, {_shown_as_before(controller)}"


@rule("not-registered", fix="start its worker, with this controller as its controller_addr; its log says why not")
def not_registered(facts: Facts) -> Iterator[Finding]:
    """No instance of that name and type is registered; names and types compare exactly."""
    name = facts.model_filter.model_name or facts.model_filter.name
    if not name or facts.instances or not facts.answering:
        return
    shown = ", ".join(map(escaped, similar(name, facts.models)))
    evidence = [
        Evidence(f"at {controller.url}: none{' in its last known list' if controller.stale_since else ''}")
        for controller in facts.answering
    ]
    evidence += [Evidence(f"registered is {shown}")] if shown else []
    evidence += [Evidence(_change(event)) for event in facts.events[-LATEST:]]
    fix = f"use one name in workers and clients; did you mean {shown}?" if shown else ""
    summary = f"no instance of {escaped(name)} is registered{AS_LAST_KNOWN if facts.are_stale else ''}"
    yield Finding(Severity.ERROR, summary, tuple(evidence), fix)


@rule("no-healthy-instance", fix="ctl why NAME says why", scope=Scope.CLUSTER | Scope.OVERVIEW)
def no_healthy(facts: Facts) -> Iterator[Finding]:
    """A model is registered, and no instance of it gets requests."""
    by_severity: dict[Severity, list[str]] = {}
    for name, counts in facts.counts_by_model.items():
        if not counts.routable:
            by_severity.setdefault(_severity(counts), []).append(name)
    for severity, names in sorted(by_severity.items()):
        evidence = tuple(Evidence(f"no routable instance: {_counted(facts, name)}", escaped(name)) for name in names)
        keys = tuple(instance.key for name in names for instance in facts.by_model.get(name, ()))
        summary = f"{len(names)} models have" if len(names) > 1 else "1 model has"
        planned = ": planned" if severity is Severity.INFO else ""
        fix = f"ctl why {quote(escaped(names[0]))} says why" if len(names) == 1 else ""
        yield Finding(severity, f"{summary} no instance that gets requests{planned}", evidence, fix, keys)


@rule("type-typo", fix="register it under the right type: NAME@llm, @text2vec, @reranker")
def type_typo(facts: Facts) -> Iterator[Finding]:
    """A type that is similar to one of DB-GPT's and is none of them: no API server ever asks for it."""
    evidence: dict[str, Evidence] = {}
    for model in sorted(facts.by_model):
        name, _, kind = model.partition("@")
        near = None if kind in TYPES else nearest(kind, TYPES)
        if near:
            evidence[model] = Evidence(f"did its worker mean {escaped(name)}@{near}?", escaped(model))
    if evidence:
        keys = tuple(instance.key for model in evidence for instance in facts.by_model[model])
        yield Finding(Severity.WARNING, "a type that DB-GPT never asks for", tuple(evidence.values()), keys=keys)


@rule("twin-names", fix="start all workers of a model with the same name: names compare exactly")
def twins(facts: Facts) -> Iterator[Finding]:
    """Two names that look the same: case, spaces or accents differ, so requests for one never reach the other."""
    groups: dict[str, list[str]] = {}
    for name in sorted(facts.models):
        groups.setdefault(_folded(name), []).append(name)
    evidence = tuple(
        Evidence(" and ".join(f"'{escaped(name)}'" for name in names))
        for names in sorted(groups.values())
        if len(names) > 1 and any(map(facts.model_filter.matches, names))
    )
    if evidence:
        yield Finding(Severity.WARNING, "one model under names that differ in case, spaces or accents", evidence)


def _prune(instances: Sequence[ObservedInstance]) -> str:
    if len(instances) <= FEW or any(instance.controller.is_stock for instance in instances):
        return ""
    return "if they are gone for good: ctl models prune --older-than 1d"


def _undrain(instances: Sequence[ObservedInstance]) -> str:
    if any(instance.controller.is_stock for instance in instances):
        return "this controller has no undrain: ctl models deregister REF --remove, then register it anew"
    if all(instance.drain and instance.drain.until for instance in instances):
        return f"nothing: the drain ends by itself; to end it now: ctl models undrain {_some_references(instances)}"
    if len(instances) > FEW:
        return "ctl models list --state drained -o name | xargs -d '\\n' ctl models undrain"
    return f"ctl models undrain {_references(instances)}"


def _register(instances: Sequence[ObservedInstance]) -> str:
    return f"ctl models register {_references(instances)}, or restart the worker" if len(instances) <= FEW else ""


def _some_references(instances: Sequence[ObservedInstance]) -> str:
    return _references(instances) if len(instances) <= FEW else "REF"


def _references(instances: Sequence[ObservedInstance]) -> str:
    return " ".join(quote(instance.reference) for instance in instances)


@instance_rule(
    "loopback-address",
    Severity.ERROR,
    "1 instance is registered under a loopback address: other machines call themselves there",
    "{n} instances are registered under loopback addresses: other machines call themselves there",
    fix=_REGISTER_HOST,
)
def loopback(instance: ObservedInstance) -> str:
    """A worker is registered under a loopback address, such as 127.0.0.1, and the controller is on another machine."""
    wrong = is_loopback(instance.key.host) and _is_for_other_machines(instance)
    return f"listed by {instance.controller.url}" if wrong else ""


@instance_rule(
    "container-address",
    Severity.WARNING,
    "1 instance is registered under an address that other machines hardly reach",
    "{n} instances are registered under addresses that other machines hardly reach",
    fix=_REGISTER_HOST,
)
def container(instance: ObservedInstance) -> str:
    """A worker is registered under an address that is valid on its own machine only: Docker's bridge, a container's
    id, 0.0.0.0, link-local.
    """
    return _why_private(instance.key.host) if _is_for_other_machines(instance) else ""


@instance_rule(
    "expired",
    Severity.WARNING,
    "1 instance sends no heartbeats any more",
    "{n} instances send no heartbeats any more",
    fix="start the worker again, or see in its log why its heartbeats do not arrive at this controller",
    fix_of=_prune,
)
def expired(instance: ObservedInstance) -> str:
    """An instance is unhealthy and not drained: its last heartbeat is older than the heartbeat timeout."""
    if instance.state is not InstanceState.UNHEALTHY or instance.drain is not None:
        return ""
    parts = [_last_heartbeat(instance)]
    if instance.controller.is_stock:
        parts.append("or it was deregistered: this controller reports both the same")
    if instance.flaps > 1:
        parts.append(f"expired {instance.flaps} times")
    if instance.probe and instance.probe.outcome is ProbeOutcome.WORKER:
        parts.append("a worker answers there: it runs, and its heartbeats do not reach this controller")
    elif instance.probe:
        parts.append(instance.probe.detail)
    return "; ".join(parts)


@rule("moved", fix="ctl models deregister OLD --remove; give the worker a fixed worker_register_host")
def moved(facts: Facts) -> Iterator[Finding]:
    """A worker seems to have come back under another address: the same model and port, registered when the old
    instance fell silent.
    """
    evidence: dict[InstanceKey, Evidence] = {}
    for instances in facts.by_model.values():
        for old in instances:
            if (new := _successor(old, instances)) is not None:
                registered = f"{new.reference} registered {old.ago(new.registered_at)}"
                detail = f"silent since {old.ago(old.last_heartbeat)}; {registered}"
                evidence[old.key] = Evidence(detail, old.reference)
    if evidence:
        many = f"{len(evidence)} instances seem to have come back under other addresses"
        summary = "1 instance seems to have come back under another address" if len(evidence) == 1 else many
        yield Finding(Severity.INFO, summary, tuple(evidence.values()), keys=tuple(evidence))


@instance_rule(
    "drained",
    Severity.INFO,
    "1 instance is drained: it gets no requests",
    "{n} instances are drained: they get no requests",
    fix="ctl models undrain REF",
    fix_of=_undrain,
)
def drained(instance: ObservedInstance) -> str:
    """An operator drained an instance: it sends heartbeats and gets no requests."""
    if not instance.beats or instance.key.type == "service" or _is_drained_long(instance):
        return ""
    return _drained(instance)


@instance_rule(
    "drained-unhealthy",
    Severity.INFO,
    "1 unhealthy instance is drained: planned",
    "{n} unhealthy instances are drained: planned",
    fix="nothing, while the work goes on; then start its worker, and ctl models undrain REF if its drain has no end",
)
def drained_unhealthy(instance: ObservedInstance) -> str:
    """An operator drained an instance, and then its worker stopped: that is planned work, and no outage."""
    if instance.state is not InstanceState.UNHEALTHY or _is_drained_long(instance):
        return ""
    return _drained(instance)


@instance_rule(
    "drained-long",
    Severity.INFO,
    "1 instance has been drained for more than a day",
    "{n} instances have been drained for more than a day",
    fix="ctl models undrain REF, or deregister it",
    fix_of=_undrain,
    scope=_ALL_BUT_LIST,
)
def drained_long(instance: ObservedInstance) -> str:
    """An instance is drained for more than a day, and only an undrain ends that: it may have been forgotten."""
    return _drained(instance) if _is_drained_long(instance) else ""


@instance_rule(
    "deregistered-beating",
    Severity.ERROR,
    "1 instance was deregistered, and its worker still beats: its heartbeats are refused",
    "{n} instances were deregistered, and their workers still beat: their heartbeats are refused",
    fix="ctl models register REF, or restart the worker: only a register brings it back",
    fix_of=_register,
    scope=Scope.MODEL | Scope.CLUSTER | Scope.OVERVIEW,
)
def deregistered_beating(instance: ObservedInstance) -> str:
    """An instance was deregistered, and its worker still runs and sends heartbeats: these do not revive it."""
    if instance.state is not InstanceState.DEREGISTERED or not _still_beats(instance):
        return ""
    refused = f"last heartbeat refused {instance.ago(instance.refused_at)}"
    return f"deregistered {instance.ago(instance.deregistered_at)}, {refused}{_and_drained(instance)}"


@instance_rule(
    "deregistered",
    Severity.INFO,
    "1 instance is deregistered",
    "{n} instances are deregistered",
    fix="start its worker, if it should serve; ctl models prune --older-than 1d forgets it",
)
def deregistered(instance: ObservedInstance) -> str:
    """An instance was deregistered: its worker stopped, or an operator took it out of service."""
    if instance.state is not InstanceState.DEREGISTERED or _still_beats(instance):
        return ""
    return f"{instance.ago(instance.deregistered_at)}{_and_drained(instance)}"


@instance_rule(
    "port-closed",
    Severity.ERROR,
    "1 instance gets requests, and its port is closed",
    "{n} instances get requests, and their ports are closed",
    fix="start the worker, or correct its worker_register_host and port: nothing listens there",
)
def port_closed(instance: ObservedInstance) -> str:
    """An instance gets requests, and nothing listens at its address, as seen from here."""
    return _probe_of_healthy(instance, ProbeOutcome.REFUSED)


@instance_rule(
    "wrong-service",
    Severity.ERROR,
    "1 instance gets requests, and what answers there is no DB-GPT worker",
    "{n} instances get requests, and what answers there is no DB-GPT worker",
    fix="correct the worker's worker_register_host and port, or stop what took its port",
)
def wrong_service(instance: ObservedInstance) -> str:
    """An instance gets requests, and what answers at its address is not a DB-GPT worker."""
    return _probe_of_healthy(instance, ProbeOutcome.OTHER)


@instance_rule(
    "worker-resets",
    Severity.ERROR,
    "1 instance gets requests, and closes connections without an answer",
    "{n} instances get requests, and close connections without an answer",
    fix="read the worker's log; a firewall or proxy between this machine and the worker may close them too",
)
def worker_resets(instance: ObservedInstance) -> str:
    """An instance gets requests, and a connection to its address is closed without an answer."""
    return _probe_of_healthy(instance, ProbeOutcome.RESET)


@instance_rule(
    "worker-name-lookup",
    Severity.WARNING,
    "1 instance gets requests, and its host name is not known here",
    "{n} instances get requests, and their host names are not known here",
    fix="run ctl why on an API server's machine; if the name is not known there either, correct worker_register_host",
)
def worker_name_lookup(instance: ObservedInstance) -> str:
    """An instance gets requests, and its host name cannot be looked up from here."""
    return _probe_of_healthy(instance, ProbeOutcome.UNKNOWN_NAME)


@instance_rule(
    "no-answer",
    Severity.WARNING,
    "1 instance gets requests, and cannot be reached from here",
    "{n} instances get requests, and cannot be reached from here",
    fix="run ctl why on an API server's machine: firewalls may admit it and not this machine",
)
def no_answer(instance: ObservedInstance) -> str:
    """An instance gets requests, and its address cannot be reached from here: a firewall, or a host that is down."""
    return _probe_of_healthy(instance, ProbeOutcome.SILENT, ProbeOutcome.FAILED)


@instance_rule(
    "flapping",
    Severity.WARNING,
    "1 instance expires again and again",
    "{n} instances expire again and again",
    fix="look for pauses of worker or network, or raise --heartbeat-timeout-secs",
)
def flapping(instance: ObservedInstance) -> str:
    """An instance expires again and again, and comes back each time. A drained one may: work goes on there."""
    if instance.flaps < MANY_FLAPS or not instance.beats or instance.drain is not None:
        return ""
    return f"{instance.flaps} times since {instance.ago(instance.registered_at)}"


@instance_rule(
    "drained-service",
    Severity.WARNING,
    "1 instance of type service is drained: dbgpt model stop and start do not find its worker",
    "{n} instances of type service are drained: dbgpt model stop and start do not find their workers",
    fix="ctl models undrain REF",
    fix_of=_undrain,
)
def drained_service(instance: ObservedInstance) -> str:
    """An instance of type service is drained: `dbgpt model stop` and `start` cannot find its worker."""
    is_hidden = instance.beats and instance.key.type == "service" and not _is_drained_long(instance)
    return _drained(instance) if is_hidden else ""


@controller_rule(
    "registry-degraded", Severity.WARNING, "a registry is degraded", fix="see the controller's log", scope=_ALL_BUT_LIST
)
def degraded(controller: ControllerFacts) -> str:
    """The controller answers, and reports itself that something is wrong with its registry."""
    status = controller.status
    differences = setting_differences(status.controllers) if status else iter(())
    is_known = controller.stale_since or controller.held_until or any(differences)
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


@rule("registry-nearly-full", fix="ctl models prune --older-than 1d, or a higher --max-instances", scope=Scope.CLUSTER)
def nearly_full(facts: Facts) -> Iterator[Finding]:
    """The registry is nearly full: when it is full, new instances are refused, and their workers end."""
    for controller, status in _reporting(facts):
        count, limit = len(controller.instances), status.max_instances
        if limit and count >= NEARLY_FULL * limit:
            severity = Severity.ERROR if count >= limit else Severity.WARNING
            evidence = (Evidence(f"{count} of {limit}", controller.url),)
            yield Finding(severity, "the registry is full or nearly full", evidence)


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


@rule("secrets-open", fix="chmod 600 FILE", scope=Scope.CLUSTER)
def open_secrets(facts: Facts) -> Iterator[Finding]:
    """A file with a password or a token can be read by others."""
    if facts.exposed_files:
        evidence = tuple(Evidence(f"mode {file.mode:04o}", file.path) for file in facts.exposed_files)
        fix = f"chmod 600 {' '.join(file.path for file in facts.exposed_files)}"
        yield Finding(Severity.WARNING, "a file with secrets can be read by others", evidence, fix)


@rule("one-host", fix="start a worker of it on a second host, if it matters", scope=Scope.CLUSTER)
def one_host(facts: Facts) -> Iterator[Finding]:
    """All healthy instances of a model are on one host: when the host fails, the model fails."""
    evidence = []
    for name, instances in facts.by_model.items():
        hosts = [instance.key.host for instance in instances if instance.routable]
        if len(hosts) > 1 and len(set(hosts)) == 1 and not is_loopback(hosts[0]):  # loopback is for trying it out
            evidence.append(Evidence(f"all {len(hosts)} on {escaped(hosts[0])}", escaped(name)))
    if evidence:
        models = "1 model is" if len(evidence) == 1 else f"{len(evidence)} models are"
        yield Finding(Severity.INFO, f"{models} on one host only", tuple(evidence))


@controller_rule(
    "stock-controller",
    Severity.INFO,
    "no /api/v1 here: times and causes of drains, deregisters and expiries are unknown",
    fix="ctl serve in its place records all of that (docs/moving-from-dbgpt.md)",
    scope=_ALL_BUT_LIST,
)
def stock(controller: ControllerFacts) -> str:
    """DB-GPT's own controller, or an older ctl, answers: it records neither times nor reasons of what happened."""
    refuses = controller.failure is not None and controller.failure.kind is ErrorKind.NOT_SUPPORTED
    return "it has no /api/v1" if controller.is_stock or refuses else ""


RULES: tuple[Rule[Facts], ...] = tuple(value for value in vars().values() if isinstance(value, Rule))
"""All rules, in the order in which they stand here."""


def examine(facts: Facts, scope: Scope) -> list[Finding]:
    """What the rules of a scope find. A finding about instances says so where it rests on a stale list."""
    stale_keys = {instance.key for instance in facts.instances if instance.controller.stale_since}
    return [
        finding if stale_keys.isdisjoint(finding.keys) else replace(finding, summary=finding.summary + AS_LAST_KNOWN)
        for finding in diagnose(RULES, facts, scope)
    ]


def is_loopback(host: str) -> bool:
    """Whether this is a name or an address by which any machine calls itself."""
    address = _address(host)
    names = {"localhost", "localhost.localdomain", "ip6-localhost"}
    return address.is_loopback if address else host.lower().rstrip(".") in names


def is_this_machine(host: str) -> bool:
    """Whether a call to it reaches the machine of the caller: loopback, or an unspecified address."""
    address = _address(host)
    return is_loopback(host) or (address is not None and address.is_unspecified)


def similar(given: str, models: Iterable[str]) -> list[str]:
    """Registered models that may have been meant: the same name with another type, else names that are similar."""
    known = sorted(models)
    name = given.partition("@")[0]
    same_name = [model for model in known if _folded(model.partition("@")[0]) == _folded(name)]
    if same_name:
        return same_name
    near = nearest(given, known) if "@" in given else nearest(name, {model.partition("@")[0] for model in known})
    return [model for model in known if near in (model, model.partition("@")[0])]


def _without_answer(
    facts: Facts, kinds: Collection[ErrorKind], summary: str, verb: str, plural: str
) -> Iterator[Finding]:
    failures = [
        (controller, controller.failure)
        for controller in facts.controllers
        if controller.failure and controller.failure.kind in kinds and controller.failure.cause is None
    ]
    if failures:
        one = f"{failures[0][0].url} {verb}"
        many = f"{len(failures)} of {len(facts.controllers)} controllers {plural}"
        evidence = tuple(Evidence(failure.detail, controller.url) for controller, failure in failures)
        yield Finding(Severity.ERROR, summary.format(one if len(failures) == 1 else many), evidence)


def _reporting(facts: Facts) -> list[tuple[ControllerFacts, ControllerStatus]]:
    """The controllers that report their status."""
    return [(controller, controller.status) for controller in facts.answering if controller.status]


def _shown_as_before(controller: ControllerFacts) -> str:
    """DB-GPT's list does not report which instances are held."""
    number = sum(instance.held for instance in controller.instances)
    if controller.status and controller.status.models is not None:
        number = sum(counts.held for counts in controller.status.models.values())
    if number == 1:
        return "1 instance is shown as it was before"
    return f"{number or 'some'} instances are shown as they were before"


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


def _comparable(report: ObservedInstance) -> tuple[InstanceState, bool]:
    """What all controllers can report of an instance. DB-GPT's own reports a deregistered one as unhealthy."""
    state = InstanceState.UNHEALTHY if report.state is InstanceState.DEREGISTERED else report.state
    return state, report.drain is None


def _with_timeout(controller: ControllerFacts) -> str:
    timeout = controller.status.heartbeat_timeout_secs if controller.status else None
    return f"{controller.url} (timeout {timeout:g}s)" if timeout else controller.url


def _reason(controller: ControllerFacts) -> str:
    reason = controller.status.reason if controller.status else None
    return f" ({escaped(reason)})" if reason else ""


def _counted(facts: Facts, name: str) -> str:
    """`2 unhealthy (1 drained)`."""
    return counted_text(facts.counts_by_model[name])


def _severity(counts: ModelCounts) -> Severity:
    """Silence is a fault; a drain or a deregister is an operator's wish."""
    return Severity.ERROR if counts.unhealthy > counts.unhealthy_drained else Severity.INFO


def _folded(name: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return "".join(plain.split()).casefold()


def _change(event: Event) -> str:
    change = event.change
    what = f"{reference_of(change.key)} {change_text(change)}, {cause_text(change)}"
    return f"{change.time:%Y-%m-%d %H:%M:%S} UTC: {what}"


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _why_private(host: str) -> str:
    address = _address(host)
    if address is None:
        return "the host looks like a container's id" if _CONTAINER_ID.fullmatch(host) else ""
    if address.is_unspecified:
        return "it is no address to call, only one to listen on"
    if address.is_link_local:
        return "it is link-local"
    return "it is on Docker's bridge" if address in _DOCKER else ""


def _is_for_other_machines(instance: ObservedInstance) -> bool:
    """Whether other machines have to reach it: not where the controller has a loopback address."""
    return instance.beats and not is_loopback(instance.controller.host)


def _probe_of_healthy(instance: ObservedInstance, *outcomes: ProbeOutcome) -> str:
    probe = instance.probe
    return probe.detail if probe and instance.routable and probe.outcome in outcomes else ""


def _age(instance: ObservedInstance, time: datetime | None) -> timedelta | None:
    now = instance.controller.as_of
    return None if time is None or now is None else now - time


def _still_beats(instance: ObservedInstance) -> bool:
    """Whether a heartbeat was refused within the last heartbeat timeout."""
    status = instance.controller.status
    timeout = (status.heartbeat_timeout_secs if status else None) or DEFAULT_TIMEOUT_SECS
    age = _age(instance, instance.refused_at)
    return age is not None and age <= timedelta(seconds=timeout)


def _successor(old: ObservedInstance, instances: Sequence[ObservedInstance]) -> ObservedInstance | None:
    last = old.last_heartbeat
    if old.beats or last is None or old.drain is not None:
        return None
    for new in instances:
        elsewhere = new.beats and not new.held and new.key.port == old.key.port and new.key.host != old.key.host
        registered_at = new.registered_at
        if elsewhere and registered_at and timedelta() <= registered_at - last <= RESTARTED:
            return new
    return None


def _last_heartbeat(instance: ObservedInstance) -> str:
    last = instance.last_heartbeat
    if last is None:
        return "it never beat"
    if instance.beat_is_local:
        return f"last heartbeat at {last:%Y-%m-%d %H:%M:%S} by the controller's own clock"
    controller, age = instance.controller, _age(instance, last)
    was_away = controller.stale_since or controller.held_until  # then nobody knows what was sent
    interval = controller.status.heartbeat_interval_secs if controller.status and not was_away else None
    missed = int(age.total_seconds() // interval) if interval and age else 0
    shown = f", {missed} missed (one every {interval:g}s)" if missed > 0 else ""
    return f"last heartbeat {instance.ago(last)}{shown}"


def _drained(instance: ObservedInstance) -> str:
    """When, by whom, why and until when it was drained, and whether its worker is silent; "" where it is not."""
    drain = instance.drain
    if drain is None:
        return ""
    silent = f"; {_last_heartbeat(instance)}" if instance.state is InstanceState.UNHEALTHY else ""
    if drain.since is None:
        return f"{'enabled is false' if instance.controller.is_stock else 'it registered with enabled: false'}{silent}"
    by = f" by {escaped(drain.by)}" if drain.by else ""
    until = f" until {drain.until:%Y-%m-%d %H:%M:%S} UTC" if drain.until else ""
    why = f": {escaped(drain.reason)}" if drain.reason else ", no reason given"
    return f"drained {instance.ago(drain.since)}{by}{until}{why}{silent}"


def _and_drained(instance: ObservedInstance) -> str:
    """For an instance with another problem: a drain outlives that."""
    return "" if instance.drain is None else f"; it is drained too: {_drained(instance)}"


def _is_drained_long(instance: ObservedInstance) -> bool:
    """Whether its drain has no end and is old. A drain with an end cannot be forgotten: it ends by itself."""
    drain = instance.drain
    if drain is None or drain.until is not None:
        return False
    age = _age(instance, drain.since or instance.registered_at)
    return age is not None and age > LONG_DRAIN
