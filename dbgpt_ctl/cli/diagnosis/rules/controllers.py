"""Rules about controllers, their registries, and the way to them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.findings import Finding, Severity, rule
from dbgpt_ctl.cli.output.instances import age_of, span
from dbgpt_ctl.cli.parsing.references import reference_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts, Facts, Seen
    from dbgpt_ctl.domain.instance import InstanceKey

SETTLED = timedelta(seconds=5)
"""Two lists are not read at the same moment: what is younger may be in one of them only."""
SKEW = timedelta(seconds=5)
SERVICE_BEAT_SECS = 20
"""DB-GPT hard-codes it for WorkerManager@service."""
NEARLY_FULL = 0.9


@rule("proxy", fix="add the hosts of controllers and workers to no_proxy where API servers and workers run")
def proxied(facts: Facts) -> Iterator[Finding]:
    """DB-GPT's calls to the controller go to a proxy: http_proxy is set, and no_proxy does not name the controller.

    DB-GPT's clients obey these variables; `ctl` does not, so it reaches the controller and an API server does not.
    """
    if facts.proxies:
        evidence = tuple(f"{each.variable}={each.proxy} has the calls to {each.controller}" for each in facts.proxies)
        hosts = ",".join(dict.fromkeys(each.host for each in facts.proxies))
        fix = f'where API servers and workers run with the same variables: export no_proxy="$no_proxy,{hosts}"'
        yield Finding(
            Severity.WARNING, "proxy variables would take DB-GPT's calls away (ctl ignores them)", evidence, fix
        )


@rule("controllers-disagree", fix="give all controllers the same registry (ctl serve --registry database), or one URL")
def disagree(facts: Facts) -> Iterator[Finding]:
    """The controllers of --address do not list the same instances: each has a registry of its own."""
    evidence: list[str] = []
    keys: set[InstanceKey] = set()
    settled = {seen.key for each in facts.answering for seen in each.seen if _is_settled(facts, seen)}
    for each in facts.answering:
        missing = sorted(settled - {seen.key for seen in each.seen})
        if missing:
            keys.update(missing)
            example = reference_to(missing[0]._asdict())
            evidence.append(f"{each.url} lacks {len(missing)} that others list, such as {example}{_registry(each)}")
    if evidence:
        summary = f"the controllers do not list the same: {len(keys)} {_instances(len(keys))} at some of them only"
        yield Finding(Severity.ERROR, summary, tuple(evidence), keys=tuple(sorted(keys)))


@rule("separate-registries", fix="run them with --registry database on one database, or give clients one URL only")
def separate(facts: Facts) -> Iterator[Finding]:
    """Several controllers, and one keeps its registry in memory: what registers there the others never see."""
    if len(facts.answering) > 1:
        alone = [each.url for each in facts.answering if each.status and each.status.kind == "embedded"]
        if alone:
            evidence = tuple(f"{url}: registry embedded" for url in alone)
            yield Finding(Severity.ERROR, "several controllers, but not one registry", evidence)


@rule("registry-stale", fix="bring the database back; nothing else is needed, beats and lists recover by themselves")
def stale(facts: Facts) -> Iterator[Finding]:
    """The registry's database is away: lists are the last known ones, and nobody can register."""
    for each in facts.answering:
        if each.stale_since:
            evidence = (f"{each.url}: what it lists is from {_ago(each, each.stale_since)}", *_reason(each))
            yield Finding(Severity.ERROR, "the registry is away, and lists may be out of date", evidence)


@rule("states-held", fix="wait: it ends by itself; then those that did not beat are unhealthy")
def held(facts: Facts) -> Iterator[Finding]:
    """The registry was away: for one heartbeat timeout some are shown as they were before."""
    for each in facts.answering:
        if each.held_until and each.time:
            left = max(0, round((each.held_until - each.time).total_seconds()))
            evidence = (f"{each.url}: for {left}s more, until {each.held_until:%H:%M:%S} UTC",)
            yield Finding(Severity.WARNING, "the registry was away, and some states are held as they were", evidence)


@rule("registry-degraded", fix="see the controller's log")
def degraded(facts: Facts) -> Iterator[Finding]:
    """The controller answers, and says itself that something is wrong with its registry."""
    for each in facts.answering:
        if each.status and each.status.reason and not each.stale_since and not each.held_until:
            yield Finding(Severity.WARNING, "a registry is not well", _reason(each))


@rule("controller-leaving", fix="nothing, if it is being restarted; else ctl serve has to be started again")
def leaving(facts: Facts) -> Iterator[Finding]:
    """A controller was told to end, and serves on until its clients have moved."""
    gone = [each.url for each in facts.answering if each.status and each.status.leaving]
    if gone:
        yield Finding(Severity.WARNING, "a controller is about to end", tuple(gone))


@rule("clock", fix="let both machines keep their time by NTP; with several database hosts: ctl db check")
def clock(facts: Facts) -> Iterator[Finding]:
    """The registry's clock and this machine's differ. States are derived by the registry's, so they are right."""
    off = [(each.url, each.skew) for each in facts.answering if each.skew is not None and abs(each.skew) > SKEW]
    if off:
        evidence = tuple(
            f"{url}: {span(abs(skew).total_seconds())} {'ahead of' if skew > timedelta() else 'behind'} this machine"
            for url, skew in off
        )
        yield Finding(Severity.WARNING, "clocks differ", evidence)


@rule("timeout-short", fix="raise --heartbeat-timeout-secs well above both, such as 60")
def short_timeout(facts: Facts) -> Iterator[Finding]:
    """The heartbeat timeout is no longer than the interval of beats: live workers expire between two of them."""
    for each in facts.answering:
        timeout = each.status.heartbeat_timeout_secs if each.status else None
        interval = (each.status.heartbeat_interval_secs if each.status else None) or 0.0
        if timeout is not None and timeout <= max(interval, SERVICE_BEAT_SECS):
            evidence = f"{each.url}: heartbeat_timeout_secs {timeout:g}; workers beat every {interval:g}s"
            if timeout > interval:
                evidence += f", WorkerManager@service every {SERVICE_BEAT_SECS}s"
            yield Finding(Severity.WARNING, "the heartbeat timeout is too short for DB-GPT's workers", (evidence,))


@rule("registry-nearly-full", fix="ctl models prune --older-than 1d, or a higher --max-instances", cluster_only=True)
def nearly_full(facts: Facts) -> Iterator[Finding]:
    """The registry has little room left: when it is full, new instances are refused, and their workers end."""
    for each in facts.answering:
        limit = each.status.max_instances if each.status else None
        if limit and len(each.seen) >= NEARLY_FULL * limit:
            full = Severity.ERROR if len(each.seen) >= limit else Severity.WARNING
            yield Finding(full, "the registry is full, or nearly so", (f"{each.url}: {len(each.seen)} of {limit}",))


@rule("secrets-open", fix="chmod 600 FILE", cluster_only=True)
def open_secrets(facts: Facts) -> Iterator[Finding]:
    """A file with a password or a token can be read by others."""
    if facts.open_files:
        evidence = tuple(f"{each.path}: mode {each.mode:04o}" for each in facts.open_files)
        fix = f"chmod 600 {' '.join(each.path for each in facts.open_files)}"
        yield Finding(Severity.WARNING, "a file with secrets can be read by others", evidence, fix)


@rule("stock-controller", fix="ctl serve in its place knows all of that (docs/moving-from-dbgpt.md)")
def stock(facts: Facts) -> Iterator[Finding]:
    """DB-GPT's own controller, or an older ctl, answers: it keeps neither times nor reasons of what happened."""
    those = tuple(each.url for each in facts.answering if each.is_stock)
    if those:
        summary = "no /api/v1 here: who drained, deregistered or expired what, and when, cannot be known"
        yield Finding(Severity.INFO, summary, those)


def _is_settled(facts: Facts, seen: Seen) -> bool:
    """Wanted, and known for long enough to be in every list."""
    old = seen.registered_at is None or seen.time - seen.registered_at > SETTLED
    return old and facts.wanted.matches(seen.key.model_name)


def _registry(controller: ControllerFacts) -> str:
    status = controller.status
    return "" if status is None else f" (registry {status.kind}{f' {status.place}' if status.place else ''})"


def _ago(controller: ControllerFacts, moment: object) -> str:
    return age_of(moment, controller.time) if controller.time else "some time ago"  # type: ignore[arg-type]


def _reason(controller: ControllerFacts) -> tuple[str, ...]:
    reason = controller.status.reason if controller.status else None
    return (f"{controller.url}: {reason}",) if reason else ()


def _instances(count: int) -> str:
    return "instance is" if count == 1 else "instances are"
