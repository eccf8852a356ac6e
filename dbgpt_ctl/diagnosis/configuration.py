"""Rules about how the cluster is set up: limits, time-outs, clocks, secrets, and what another controller lacks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

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
from dbgpt_ctl.domain.hosts import is_loopback
from dbgpt_ctl.errors import ErrorKind
from dbgpt_ctl.text.escaping import escaped
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.diagnosis.facts import ControllerFacts

SKEW = timedelta(seconds=5)
SERVICE_BEAT_SECS = 20
"""DB-GPT hard-codes this interval for WorkerManager@service."""
NEARLY_FULL = 0.9


@rule("registry-nearly-full", fix="ctl models prune --older-than 1d, or a higher --max-instances", scope=Scope.CLUSTER)
def nearly_full(facts: Facts) -> Iterator[Finding]:
    """The registry is nearly full: when it is full, new instances are refused, and their workers end."""
    for controller, status in facts.reporting:
        count, limit = len(controller.instances), status.settings.max_instances
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
    "controller-clock",
    Severity.WARNING,
    "the clocks of a controller and of its database differ",
    fix="synchronize both clocks by NTP; ctl db check shows which hosts of the database differ",
    scope=ALL_BUT_LIST,
)
def controller_clock(controller: ControllerFacts) -> str:
    """The clocks of a controller and of its database differ. States, ages and tokens are judged by the database's clock
    (tokens at most 10 minutes from the controller's own), logs and certificates by the controller's.
    """
    checks = controller.status.checks if controller.status else ()
    return next((escaped(check.detail) for check in checks if check.name == "clock" and check.detail), "")


@controller_rule(
    "clock",
    Severity.WARNING,
    "clocks differ",
    fix="synchronize both clocks by NTP; with several database hosts: ctl db check",
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
    scope=ALL_BUT_LIST,
)
def stock(controller: ControllerFacts) -> str:
    """DB-GPT's own controller, or an older ctl, answers: it records neither times nor reasons of what happened."""
    refuses = controller.failure is not None and controller.failure.kind is ErrorKind.NOT_SUPPORTED
    return "it has no /api/v1" if controller.is_stock or refuses else ""
