"""Rules about the states of instances: why one gets no requests."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Knock
from dbgpt_ctl.cli.diagnosis.findings import Finding, Severity, of_instances, rule
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Facts, Seen

MANY_FLAPS = 3
FEW = 3


@rule("expired", fix="start the worker again, or see in its log why its beats do not arrive at this controller")
def expired(facts: Facts) -> Iterator[Finding]:
    """An instance is unhealthy: its beats stopped for longer than the heartbeat timeout."""
    those = [each for each in facts.seen if each.state is InstanceState.UNHEALTHY]
    one, many = "1 instance does not beat any more", "{n} instances do not beat any more"
    many_known = len(those) > FEW and all(each.is_known for each in those)
    fix = "if they are gone for good: ctl models prune --older-than 1d" if many_known else ""
    yield from of_instances(Severity.WARNING, those, one, many, lambda each: _missed(facts, each), fix)


@rule("flapping", fix="look for pauses of worker or network, or raise --heartbeat-timeout-secs")
def flapping(facts: Facts) -> Iterator[Finding]:
    """An instance expires again and again, and comes back each time."""
    those = [each for each in facts.seen if each.flaps >= MANY_FLAPS and each.beats]
    one, many = "1 instance expires again and again", "{n} instances expire again and again"
    yield from of_instances(
        Severity.WARNING, those, one, many, lambda each: f"{each.flaps} times since {each.ago(each.registered_at)}"
    )


@rule("drained", fix="ctl models undrain REF")
def drained(facts: Facts) -> Iterator[Finding]:
    """An operator drained an instance: it beats and gets no requests."""
    those = [each for each in facts.seen if each.state is InstanceState.DRAINED and each.key.type != "service"]
    one, many = "1 instance is drained: it gets no requests", "{n} instances are drained: they get no requests"
    yield from of_instances(Severity.INFO, those, one, many, _drained_by, _undrain(those))


@rule("drained-service", fix="ctl models undrain REF")
def drained_service(facts: Facts) -> Iterator[Finding]:
    """An instance of type service is drained: `dbgpt model stop` and `start` cannot find its worker."""
    those = [each for each in facts.seen if each.state is InstanceState.DRAINED and each.key.type == "service"]
    one = "1 instance of type service is drained: dbgpt model stop and start do not find its worker"
    many = "{n} instances of type service are drained: dbgpt model stop and start do not find their workers"
    yield from of_instances(Severity.WARNING, those, one, many, _drained_by, _undrain(those))


@rule("deregistered-beating", fix="ctl models register REF, or restart the worker: only a register brings it back")
def deregistered_beating(facts: Facts) -> Iterator[Finding]:
    """An instance was deregistered, and its worker still runs and beats: beats do not revive it."""
    those = [each for each in _deregistered(facts) if each.refused_at is not None]
    one = "1 instance was deregistered, and its worker still beats: its beats are refused"
    many = "{n} instances were deregistered, and their workers still beat: their beats are refused"
    fix = f"ctl models register {_references(those)}, or restart the worker" if 0 < len(those) <= FEW else ""
    yield from of_instances(
        Severity.ERROR,
        those,
        one,
        many,
        lambda each: f"deregistered {each.ago(each.deregistered_at)}, last beat refused {each.ago(each.refused_at)}",
        fix,
    )


@rule("deregistered", fix="start its worker, if it should serve; ctl models prune --older-than 1d forgets it")
def deregistered(facts: Facts) -> Iterator[Finding]:
    """An instance was deregistered: its worker stopped, or somebody took it out of service."""
    those = [each for each in _deregistered(facts) if each.refused_at is None]
    one, many = "1 instance is deregistered", "{n} instances are deregistered"
    yield from of_instances(Severity.INFO, those, one, many, lambda each: each.ago(each.deregistered_at))


def _deregistered(facts: Facts) -> list[Seen]:
    return [each for each in facts.seen if each.state is InstanceState.DEREGISTERED]


def _missed(facts: Facts, seen: Seen) -> str:
    if seen.last_heartbeat is None:
        told = "it never beat"
    elif seen.beat_is_local:
        told = f"last beat at {seen.last_heartbeat:%Y-%m-%d %H:%M:%S} by the controller's own clock"
    else:
        told = f"last beat {seen.ago(seen.last_heartbeat)}{_intervals(facts, seen)}"
    if not seen.is_known:
        told += "; or it was deregistered: this controller does not tell which"
    if seen.flaps > 1:
        told += f"; expired {seen.flaps} times"
    return told + _life(facts, seen)


def _intervals(facts: Facts, seen: Seen) -> str:
    status = facts.controller_of(seen).status
    if status is None or not status.heartbeat_interval_secs or seen.last_heartbeat is None:
        return ""
    missed = int((seen.time - seen.last_heartbeat).total_seconds() // status.heartbeat_interval_secs)
    return f", {missed} beats missed (one every {status.heartbeat_interval_secs:g}s)" if missed > 0 else ""


def _life(facts: Facts, seen: Seen) -> str:
    """What the address says about the silence."""
    probe = facts.probe_of(seen)
    if probe is None:
        return ""
    if probe.knock is Knock.WORKER:
        return "; a worker answers there: it runs, and its beats do not reach this controller"
    return f"; {probe.detail}"


def _drained_by(seen: Seen) -> str:
    if seen.drained_at is None:
        return "said enabled: false when it registered" if seen.is_known else "enabled is false"
    by = f" by {escaped(seen.drained_by)}" if seen.drained_by else ""
    why = f": {escaped(seen.drain_reason)}" if seen.drain_reason else ", no reason given"
    return f"drained {seen.ago(seen.drained_at)}{by}{why}"


def _undrain(those: Sequence[Seen]) -> str:
    if any(not each.is_known for each in those):
        return "this controller has no undrain: ctl models deregister REF --remove, then register it anew"
    if len(those) > FEW:
        return "ctl models list --state drained -o name | xargs -d '\\n' ctl models undrain"
    return f"ctl models undrain {_references(those)}" if 0 < len(those) <= FEW else ""


def _references(those: Sequence[Seen]) -> str:
    return " ".join(quote(each.reference) for each in those)
