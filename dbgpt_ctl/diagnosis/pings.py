"""Rules about pings: what a routable instance says when it is asked. They find nothing without `--ping`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.diagnosis.facts import Evidence, Facts, Finding, Severity, instance_rule, rule
from dbgpt_ctl.domain.ping_results import PingResult
from dbgpt_ctl.text.escaping import escaped, shell_argument

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.diagnosis.facts import ObservedInstance

FEW = 3
"""A fix names at most this many instances."""


@rule("healthy-but-not-answering", fix="ctl models ping REF; ctl models drain REF --reason ping --for 15m")
def not_answering(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and does not answer a ping: its worker or what its model calls is broken. Its
    heartbeats do not show that. Only `--ping` finds it.
    """
    by_severity: dict[Severity, list[ObservedInstance]] = {Severity.ERROR: [], Severity.WARNING: []}
    for instances in facts.by_model.values():
        routable = [instance for instance in instances if instance.routable]
        failed = [instance for instance in routable if instance.ping and instance.ping.failed]
        severity = Severity.ERROR if len(failed) == len(routable) else Severity.WARNING
        by_severity[severity] += [instance for instance in failed if not instance.failed_probe]
    for severity, found in by_severity.items():
        if found:
            yield _finding(facts, severity, found)


@instance_rule(
    "worker-busy",
    Severity.WARNING,
    "1 instance did not answer a ping in time, and may only be busy",
    "{n} instances did not answer a ping in time, and may only be busy",
    fix="nothing, if this passes; else add workers, or raise the concurrency of the model. A drain is no help",
)
def worker_busy(instance: ObservedInstance) -> str:
    """An instance gets requests, and did not answer a ping in time, as where all slots of its worker are taken. Only
    `--ping` finds it.
    """
    return _said(instance) if instance.ping and instance.ping.result is PingResult.BUSY else ""


def _finding(facts: Facts, severity: Severity, found: Sequence[ObservedInstance]) -> Finding:
    several = len(found) > 1
    summary = f"{len(found)} instances get requests, and do" if several else "1 instance gets requests, and does"
    whose = "its model" if not several else "these models" if _models(found) > 1 else "the model"
    others = f"; no other instance of {whose} does" if severity is Severity.ERROR else ""
    return Finding(
        severity,
        f"{summary} not answer a ping{others}",
        tuple(Evidence(_said(instance), instance.reference) for instance in found),
        _fix(facts, severity, found),
        tuple(instance.key for instance in found),
    )


def _fix(facts: Facts, severity: Severity, found: Sequence[ObservedInstance]) -> str:
    """A drain is no help where no other instance answers, and DB-GPT's own controller has none."""
    references = " ".join(shell_argument(instance.reference) for instance in found)
    named = facts.model_filter.label
    selection = references if len(found) <= FEW else shell_argument(escaped(named)) if named else "--all"
    ping = f"ctl models ping {selection}"
    if severity is Severity.ERROR:
        return f"mend the worker, or what its model calls; then {ping}"
    if any(instance.controller.is_stock for instance in found):
        return f"{ping}; mend the worker, or what its model calls, or stop the worker"
    if len(found) > FEW:
        return f"{ping} -o name | ctl models drain - --reason ping --for 15m"
    return f"{ping}; until it answers: ctl models drain {references} --reason ping --for 15m"


def _models(instances: Sequence[ObservedInstance]) -> int:
    return len({instance.model_name for instance in instances})


def _said(instance: ObservedInstance) -> str:
    """The result and its detail."""
    ping = instance.ping
    return f"{ping.result}: {ping.detail}" if ping else ""
