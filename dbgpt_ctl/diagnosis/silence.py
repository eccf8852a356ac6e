"""Rules about instances that send no heartbeats any more: what they have in common is the likeliest cause.

Each silent instance is in one finding only. None of them advises a prune before an instance is gone for a day: one
heartbeat brings it back, with its drain and its history.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.auth.tokens import Reason
from dbgpt_ctl.diagnosis.addresses import RESTARTED
from dbgpt_ctl.diagnosis.facts import ALL_BUT_LIST, Evidence, Facts, Finding, ProbeOutcome, Scope, Severity, rule
from dbgpt_ctl.diagnosis.instances import age_of, last_heartbeat_text, timeout_of
from dbgpt_ctl.diagnosis.refused import Refused, refused_text
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.text.escaping import escaped, shell_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from dbgpt_ctl.diagnosis.facts import ControllerFacts, ObservedInstance

GONE = timedelta(days=1)
BEAT = timedelta(seconds=20)
"""The interval of DB-GPT's heartbeats where the controller does not report it."""
SLACK = timedelta(seconds=5)


class Silence(NamedTuple):
    """The instances that are unhealthy and not drained, each in one group, by the likeliest cause."""

    refused: list[tuple[ObservedInstance, list[Refused]]]
    everywhere: list[ObservedInstance]
    by_host: dict[str, list[ObservedInstance]]
    restarted: list[ObservedInstance]
    others: list[ObservedInstance]
    gone: list[ObservedInstance]


@rule(
    "workers-refused",
    fix="list them with ctl auth status, and write a valid token into each controller_addr (docs/security.md); to "
    "serve them until then: ctl auth mode log",
    scope=ALL_BUT_LIST,
)
def workers_refused(facts: Facts) -> Iterator[Finding]:
    """A controller refuses the heartbeats of a worker, because of its token: the worker runs, and its instance is
    unhealthy.
    """
    silence = _silence(facts)
    known = [refused for _, found in silence.refused for refused in found]
    if known:
        one, many = "1 instance is", f"{len(silence.refused)} instances are"
        whose = "its host" if len(silence.refused) == 1 else "their hosts"
        yield Finding(
            Severity.ERROR,
            f"{one if len(silence.refused) == 1 else many} unhealthy, and heartbeats from {whose} are refused",
            tuple(Evidence(refused_text(found), instance.reference) for instance, found in silence.refused),
            _renewal(known),
            tuple(instance.key for instance, _ in silence.refused),
        )
    others = _refused_elsewhere(facts, silence)
    is_likely = _is_likely_cause(facts, silence)
    if others and (is_likely or not str(facts.model_filter)):
        number = len(others)
        summary = f"heartbeats from {number} {'other ' if known else ''}{'addresses' if number > 1 else 'address'} are"
        cause = " refused: a likely cause for what is missing" if is_likely else " refused"
        evidence = tuple(Evidence(refused_text(found)) for found in others)
        severity = Severity.ERROR if is_likely else Severity.WARNING
        yield Finding(severity, summary + cause, evidence, _renewal([each for found in others for each in found]))


@rule(
    "heartbeats-stopped",
    fix="run ctl health -a URL on a worker's host to check its way to the controller. Do not prune: one heartbeat "
    "brings an instance back",
)
def heartbeats_stopped(facts: Facts) -> Iterator[Finding]:
    """All instances of all models fell silent at the same time: their heartbeats do not reach the controllers."""
    silent = _silence(facts).everywhere
    if silent:
        hosts = {instance.host for instance in silent}
        where = f"on {len(hosts)} hosts" if len(hosts) > 1 else f"on {escaped(silent[0].host)}"
        evidence = Evidence(f"{len(silent)} instances {where}; {last_heartbeat_text(_latest(silent))}")
        keys = tuple(instance.key for instance in silent)
        summary = "no instance of any model sends heartbeats any more: they stopped at the same time"
        yield Finding(Severity.ERROR, summary, (evidence, *_restarts(facts, silent)), keys=keys)


@rule(
    "host-silent",
    fix="check that the host is up and has network; if it has, ask its workers: ctl models ping --host HOST",
    scope=Scope.CLUSTER,
)
def host_silent(facts: Facts) -> Iterator[Finding]:
    """All instances on a host fell silent at the same time, as when the host or its network is down. Several hosts that
    fall silent at the same time share what failed.
    """
    hosts = _silence(facts).by_host
    if not hosts:
        return
    silent = [instance for instances in hosts.values() for instance in instances]
    evidence = (
        Evidence(f"{len(instances)} silent, {last_heartbeat_text(_latest(instances))}", escaped(host))
        for host, instances in hosts.items()
    )
    summary, fix = f"{len(hosts)} hosts are silent: none of their instances sends heartbeats any more", ""
    if len(hosts) == 1:
        summary = "1 host is silent: none of its instances sends heartbeats any more"
        host = shell_argument(escaped(silent[0].host))
        fix = f"check that it is up and has network; if it has, ask its workers: ctl models ping --host {host}"
    elif _is_at_once(silent):
        summary = f"{len(hosts)} hosts fell silent at the same time, with {len(silent)} instances"
        fix = "look for what these hosts share: a rack, a switch, a power supply, a change that was made on all of them"
    yield Finding(Severity.WARNING, summary, tuple(evidence), fix, tuple(instance.key for instance in silent))


@rule(
    "silent-since-restart",
    fix="ctl events --since 15m shows whether they recover: if they do, raise --heartbeat-timeout-secs; if not, run "
    "ctl health -a URL on a worker's host, and compare the controller's settings with those before",
)
def silent_since_restart(facts: Facts) -> Iterator[Finding]:
    """Instances on several hosts fell silent when a controller was started again: its settings may have changed, such
    as its address, or a heartbeat timeout that is too short for their workers.
    """
    silent = _silence(facts).restarted
    if silent:
        evidence = (Evidence(last_heartbeat_text(instance), instance.reference) for instance in silent)
        keys = tuple(instance.key for instance in silent)
        summary = f"{len(silent)} instances on several hosts fell silent when a controller was started"
        yield Finding(Severity.WARNING, summary, (*_restarts(facts, silent), *evidence), keys=keys)


@rule("expired", fix="start the worker again, or see in its log why its heartbeats do not arrive at this controller")
def expired(facts: Facts) -> Iterator[Finding]:
    """An instance is unhealthy and not drained: its last heartbeat is older than the heartbeat timeout."""
    silent = _silence(facts).others
    if silent:
        many = f"{len(silent)} instances send no heartbeats any more"
        is_part = len(silent) > 1 and str(facts.model_filter)  # of a host with other models, perhaps
        fix = "see in the workers' logs why their heartbeats stopped; ctl doctor shows whether their hosts are silent"
        yield Finding(
            Severity.WARNING,
            "1 instance sends no heartbeats any more" if len(silent) == 1 else many,
            tuple(Evidence(_silence_text(instance), instance.reference) for instance in silent),
            fix if is_part and _is_at_once(silent) else "",
            tuple(instance.key for instance in silent),
        )


@rule("expired-long", fix="start the worker again; if it is gone for good: ctl models prune --older-than 1d")
def expired_long(facts: Facts) -> Iterator[Finding]:
    """An instance is unhealthy and not drained, and its last heartbeat is older than a day: it may be gone for good."""
    silence = _silence(facts)
    if silence.gone:
        one, many = "1 instance has sent no heartbeat", f"{len(silence.gone)} instances have sent no heartbeats"
        fix = "start the worker again, or remove it: ctl models deregister REF --remove"
        if _refused_elsewhere(facts, silence):
            fix = "first see workers-refused: it may be these workers that are refused"
        elif not any(instance.controller.is_stock for instance in silence.gone):
            fix = ""
        yield Finding(
            Severity.WARNING,
            f"{one if len(silence.gone) == 1 else many} for more than a day",
            tuple(Evidence(_silence_text(instance), instance.reference) for instance in silence.gone),
            fix,
            tuple(instance.key for instance in silence.gone),
        )


def _silence(facts: Facts) -> Silence:
    found = Silence([], [], {}, [], [], [])
    recent = []
    for instance in facts.instances:
        if instance.state is not InstanceState.UNHEALTHY or instance.drain is not None:
            continue
        silent_for = _silent_for(instance)
        if refused := facts.refused.of(instance.key, silent_for):
            found.refused.append((instance, refused))
        elif silent_for is not None and silent_for > GONE + timeout_of(instance.controller.status):
            found.gone.append(instance)
        else:
            recent.append(instance)
    if len(recent) > 1 and not any(map(_has_life, facts.answering)) and _is_at_once(recent):
        return found._replace(everywhere=recent)
    hosts = {} if str(facts.model_filter) else _silent_hosts(facts, recent)
    rest = [instance for instance in recent if instance.host not in hosts]
    if len({instance.host for instance in rest}) > 1 and _restarts(facts, rest):
        return found._replace(by_host=hosts, restarted=rest)
    return found._replace(by_host=hosts, others=rest)


def _silent_hosts(facts: Facts, silent: Sequence[ObservedInstance]) -> dict[str, list[ObservedInstance]]:
    """The hosts on which all instances fell silent at once: several of them, or as many hosts did at the same time."""
    alive = {instance.host for instance in facts.instances if instance.is_healthy and instance.check_healthy}
    hosts: dict[str, list[ObservedInstance]] = {}
    for instance in silent:
        if instance.host not in alive:
            hosts.setdefault(instance.host, []).append(instance)
    fallen = {host: instances for host, instances in hosts.items() if _is_at_once(instances)}
    together: set[str] = set()
    for one, other in pairwise(sorted(fallen, key=lambda host: _time(_latest(fallen[host])))):
        if _is_at_once([*fallen[one], *fallen[other]]):
            together |= {one, other}
    return {host: instances for host, instances in fallen.items() if len(instances) > 1 or host in together}


def _is_at_once(silent: Sequence[ObservedInstance]) -> bool:
    """Whether their last heartbeats are not further apart than those of living workers, each of which has its turn."""
    times = [instance.last_heartbeat for instance in silent if instance.last_heartbeat is not None]
    if len(times) < len(silent):
        return False
    return max(times) - min(times) <= _apart(silent[0].controller)


def _apart(controller: ControllerFacts) -> timedelta:
    status = controller.status
    interval = timedelta(seconds=(status.heartbeat_interval_secs if status else None) or 0)
    return max(interval, BEAT) + SLACK


def _restarts(facts: Facts, silent: Sequence[ObservedInstance]) -> list[Evidence]:
    """The controllers that were started within the last minutes, at the time at which these sent their last heartbeats:
    a worker whose heartbeats arrived afterwards has another reason to be silent.
    """
    found = []
    for controller, status in facts.reporting:
        now, started = controller.time, status.controller.started_at
        if now is None or started is None or now - started > RESTARTED:
            continue
        if all(abs(_time(instance) - started) <= _apart(controller) for instance in silent):
            timeout = f"{timeout_of(status).total_seconds():g}s"
            detail = f"it was started {controller.ago(started)}, with a heartbeat timeout of {timeout}"
            found.append(Evidence(detail, controller.url))
    return found


def _has_life(controller: ControllerFacts) -> bool:
    """Whether an instance of any model sends heartbeats, also one that the filter leaves out."""
    counts = (controller.status.models or ()) if controller.status else ()
    listed = (each.check_healthy and each.state is InstanceState.HEALTHY for each in controller.instances)
    return any(each.healthy > each.unchecked for each in counts) or any(listed)


def _is_likely_cause(facts: Facts, silence: Silence) -> bool:
    """Whether something is missing for which refused heartbeats from elsewhere may be the cause."""
    if facts.counts is not None:
        return any(counts.unhealthy > counts.unhealthy_drained for counts in facts.counts.values())
    return bool(not facts.instances or silence.everywhere or silence.by_host or silence.restarted or silence.others)


def _refused_elsewhere(facts: Facts, silence: Silence) -> list[list[Refused]]:
    """Those that are refused now and belong to no instance that is silent, by source."""
    known = {refused.place for _, found in silence.refused for refused in found}
    by_source: dict[str | None, list[Refused]] = {}
    for refused in facts.refused.all:
        if refused.place not in known and refused.worker.age <= timeout_of(refused.status):
            by_source.setdefault(refused.worker.source, []).append(refused)
    return [found for _, found in sorted(by_source.items(), key=str)]


def _renewal(refused: Iterable[Refused]) -> str:
    """The fix where one token has expired, and nothing else is wrong."""
    tokens = {(each.worker.reason, each.worker.token) for each in refused}
    reason, token = tokens.pop()
    if tokens or reason != Reason.EXPIRED or token is None:
        return ""
    return f"ctl token rotate {shell_argument(escaped(token))} --expires 90d renews it"


def _silence_text(instance: ObservedInstance) -> str:
    parts = [last_heartbeat_text(instance)]
    if instance.controller.is_stock:
        parts.append("or it was deregistered: this controller reports both the same")
    if instance.flaps > 1:
        parts.append(f"expired {instance.flaps} times")
    if instance.probe and instance.probe.outcome is ProbeOutcome.WORKER:
        parts.append("a worker answers there: it runs, and its heartbeats do not reach this controller")
    elif instance.probe:
        parts.append(instance.probe.detail)
    return "; ".join(parts)


def _silent_for(instance: ObservedInstance) -> timedelta | None:
    """None where it is not known, as by the clock of DB-GPT's controller, whose time zone is not known."""
    if instance.beat_is_local:
        return None
    return age_of(instance, instance.last_heartbeat or instance.registered_at)


def _latest(silent: Sequence[ObservedInstance]) -> ObservedInstance:
    return max(silent, key=_time)


def _time(instance: ObservedInstance) -> datetime:
    return instance.last_heartbeat or datetime.min.replace(tzinfo=UTC)
