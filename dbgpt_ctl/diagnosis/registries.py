"""Rules about the registries behind the controllers: are they one, are they readable, and do they give one answer."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.client.results import state_text
from dbgpt_ctl.diagnosis.facts import (
    ALL_BUT_LIST,
    Evidence,
    Facts,
    Finding,
    Scope,
    Severity,
    controller_rule,
    rule,
)
from dbgpt_ctl.domain.controllers import setting_differences
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.domain.references import reference_of
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.diagnosis.facts import ControllerFacts, ObservedInstance
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.wire.status import Status

_DISK_FULL = re.compile(r"disk (is )?full|no space left|quota exceeded|\((1021|1114)\b", re.IGNORECASE)
"""What SQLite, the system, and MySQL and MariaDB call it."""
SETTLED = timedelta(seconds=5)
"""Two lists are not read at the same time: an instance that is younger may be in one of them only."""


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
    fix="give all controllers of the registry the same settings, and restart them one at a time (docs/upgrading.md)",
    scope=ALL_BUT_LIST | Scope.LIST,
)
def settings_differ(facts: Facts) -> Iterator[Finding]:
    """The controllers of one registry have different heartbeat timeouts or intervals, so their states differ."""
    differences = [each for _, status in facts.reporting for each in setting_differences(status.records)]
    details = dict.fromkeys(escaped(difference.line) for difference in differences)  # all controllers report the same
    details |= dict.fromkeys(_of_a_list(each) for each in facts.answering if each.heartbeat_timeouts_secs)
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
    scope=ALL_BUT_LIST,
)
def separate(facts: Facts) -> Iterator[Finding]:
    """Several controllers, and one keeps its registry in memory: what registers there the others never see."""
    reporting = facts.reporting
    if len(facts.answering) > 1 and any(status.registry.kind == "embedded" for _, status in reporting):
        yield Finding(Severity.ERROR, "the controllers do not share one registry", (_homes(reporting),))


@rule(
    "different-registries",
    fix="compare their registry_ settings; two names of one database are no fault",
    scope=Scope.OVERVIEW,
)
def different(facts: Facts) -> Iterator[Finding]:
    """The controllers name different databases as their registry; `controllers-disagree` shows whether they are."""
    reporting = facts.reporting
    places = {status.registry.place for _, status in reporting}  # a kind is known only after the first connection
    if len(places) > 1 and all(status.registry.kind != "embedded" for _, status in reporting):
        yield Finding(Severity.WARNING, "the controllers name different registries", (_homes(reporting),))


@rule(
    "registry-empty",
    fix="start workers with this controller as their controller_addr; ctl events shows whether instances were removed",
    scope=Scope.CLUSTER | Scope.OVERVIEW,
)
def empty(facts: Facts) -> Iterator[Finding]:
    """No instance of any model is registered, so every request fails. A registry in memory is empty after a start."""
    if facts.answering and all(map(_is_empty, facts.answering)):
        evidence = tuple(Evidence(_emptiness(controller), controller.url) for controller in facts.answering)
        yield Finding(Severity.WARNING, "the registry is empty", evidence)


@controller_rule(
    "disk-full",
    Severity.ERROR,
    "a disk is full",
    fix="free space on the disk of what is named; df -h shows how full it is. Nothing has to be restarted afterwards",
    scope=ALL_BUT_LIST,
)
def disk_full(controller: ControllerFacts) -> str:
    """A disk is full: the database or a log cannot be written. A log on that disk does not show it."""
    reason = controller.status.registry.reason if controller.status else None
    return escaped(reason) if reason and _DISK_FULL.search(reason) else ""


@controller_rule(
    "registry-not-ready",
    Severity.ERROR,
    "a registry cannot be read",
    fix="bring its database back; ctl db check on the controller's machine tests the way to it",
    scope=ALL_BUT_LIST,
)
def not_ready(controller: ControllerFacts) -> str:
    """The controller answers, and its registry cannot be read: lists fail."""
    is_ready = controller.status is None or controller.status.registry.ready
    return "" if is_ready else f"its registry cannot be read{_reason(controller)}"


@controller_rule(
    "registry-stale",
    Severity.ERROR,
    "the registry is away, and lists may be out of date",
    fix="bring the database back; nothing else is needed, heartbeats and lists recover by themselves",
    scope=ALL_BUT_LIST | Scope.LIST,
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
    scope=ALL_BUT_LIST | Scope.LIST,
)
def held(controller: ControllerFacts) -> str:
    """The registry was away: for one heartbeat timeout some instances are shown as they were before."""
    if controller.held_until is None:
        return ""
    # No time that is left: controllers that are asked a second apart would not share a line.
    return f"its registry was away; until {controller.held_until:%H:%M:%S} UTC, {_shown_as_before(controller)}"


@controller_rule(
    "registry-degraded", Severity.WARNING, "a registry is degraded", fix="see the controller's log", scope=ALL_BUT_LIST
)
def degraded(controller: ControllerFacts) -> str:
    """The controller answers, and reports itself that something is wrong with its registry."""
    status = controller.status
    differences = setting_differences(status.records) if status else iter(())
    is_known = controller.stale_since or controller.held_until or any(differences) or _is_of_tokens(status)
    reason = status.registry.reason if status and status.registry.ready else None
    return "" if not reason or is_known or _DISK_FULL.search(reason) else escaped(reason)


def _is_empty(controller: ControllerFacts) -> bool:
    """Whether it is known to list nothing. Without a list of its models a registry cannot be read."""
    models = controller.status.models if controller.status else []
    return not controller.instances and models is not None and not models


def _emptiness(controller: ControllerFacts) -> str:
    status = controller.status
    if status is None or status.registry.durable or status.is_remote:
        return "no instance is registered"
    started = controller.ago(status.controller.started_at)
    return f"no instance is registered: its registry is in memory, and it was started {started}"


def _is_of_tokens(status: Status | None) -> bool:
    """Whether nothing is wrong but its tokens file, of which `tokens-file-unreadable` says more."""
    file = status.auth.tokens_file if status and status.auth else None
    return status is not None and file is not None and status.registry.reason == file.problem


def _shown_as_before(controller: ControllerFacts) -> str:
    """DB-GPT's list does not report which instances are held."""
    number = sum(instance.held for instance in controller.instances)
    if controller.status and controller.status.models is not None:
        number = sum(counts.held for counts in controller.status.models)
    if number == 1:
        return "1 instance is shown as it was before"
    return f"{number or 'some'} instances are shown as they were before"


def _of_a_list(controller: ControllerFacts) -> str:
    """A list has no addresses of controllers."""
    timeouts = " and ".join(f"{timeout:.12g}s" for timeout in controller.heartbeat_timeouts_secs)
    return (
        f"the controllers have heartbeat timeouts of {timeouts}, so not all of them route to the same instances; "
        "ctl status shows which controller has which"
    )


def _home(status: Status) -> str:
    return escaped(f"{status.registry.kind} {status.registry.place}" if status.registry.place else status.registry.kind)


def _homes(reporting: Sequence[tuple[ControllerFacts, Status]]) -> Evidence:
    homes = ", ".join(f"{escaped(controller.url)}: {_home(status)}" for controller, status in reporting)
    return Evidence(homes, "the controllers")


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
    reason = controller.status.registry.reason if controller.status else None
    return f" ({escaped(reason)})" if reason else ""
