"""Rules about instances: why one gets no requests (its state), and why its requests fail (its address)."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address, ip_network
from shlex import quote
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Evidence, Finding, ProbeOutcome, Scope, Severity, instance_rule, rule
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.diagnosis.facts import Facts, ObservedInstance
    from dbgpt_ctl.domain.instance import InstanceKey

RESTARTED = timedelta(minutes=10)
"""A worker that comes back under another address registers within this time of its last heartbeat."""
LONG_DRAIN = timedelta(hours=24)
DEFAULT_TIMEOUT_SECS = 60.0
"""The heartbeat timeout where the controller does not report it."""
MANY_FLAPS = 3
FEW = 3
"""A fix names at most this many instances."""
_DOCKER = ip_network("172.17.0.0/16")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")
_REGISTER_HOST = "set the worker's worker_register_host to an address that API servers can reach, and restart it"


def _prune(instances: Sequence[ObservedInstance]) -> str:
    if len(instances) <= FEW or any(instance.controller.is_stock for instance in instances):
        return ""
    return "if they are gone for good: ctl models prune --older-than 1d"


def _undrain(instances: Sequence[ObservedInstance]) -> str:
    if any(instance.controller.is_stock for instance in instances):
        return "this controller has no undrain: ctl models deregister REF --remove, then register it anew"
    if len(instances) > FEW:
        return "ctl models list --state drained -o name | xargs -d '\\n' ctl models undrain"
    return f"ctl models undrain {_references(instances)}"


def _register(instances: Sequence[ObservedInstance]) -> str:
    return f"ctl models register {_references(instances)}, or restart the worker" if len(instances) <= FEW else ""


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
    """An instance is unhealthy: its last heartbeat is older than the heartbeat timeout."""
    if instance.state is not InstanceState.UNHEALTHY:
        return ""
    known, parts = instance.known, [_last_heartbeat(instance)]
    if instance.controller.is_stock:
        parts.append("or it was deregistered: this controller reports both the same")
    if known.flaps > 1:
        parts.append(f"expired {known.flaps} times")
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
                registered = f"{new.reference} registered {old.ago(new.known.registered_at)}"
                detail = f"silent since {old.ago(old.known.last_heartbeat)}; {registered}"
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
    return "" if instance.key.type == "service" else _drained(instance)


@instance_rule(
    "drained-long",
    Severity.WARNING,
    "1 instance has been drained for more than a day",
    "{n} instances have been drained for more than a day",
    fix="ctl models undrain REF, or deregister it",
    fix_of=_undrain,
    scope=Scope.OVERVIEW,
)
def drained_long(instance: ObservedInstance) -> str:
    """An instance is drained for more than a day: it may have been forgotten."""
    age = _age(instance, instance.known.drained_at)
    return _drained(instance) if age is not None and age > LONG_DRAIN else ""


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
    known = instance.known
    if instance.state is not InstanceState.DEREGISTERED or not _still_beats(instance):
        return ""
    return (
        f"deregistered {instance.ago(known.deregistered_at)}, last heartbeat refused {instance.ago(known.refused_at)}"
    )


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
    return instance.ago(instance.known.deregistered_at)


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
    "no-answer",
    Severity.WARNING,
    "1 instance gets requests, and cannot be reached from here",
    "{n} instances get requests, and cannot be reached from here",
    fix="run ctl why on an API server's machine: firewalls may admit it and not this machine",
)
def no_answer(instance: ObservedInstance) -> str:
    """An instance gets requests, and its address cannot be reached from here: a firewall, or a name that only other
    machines know.
    """
    return _probe_of_healthy(instance, ProbeOutcome.SILENT, ProbeOutcome.FAILED)


@instance_rule(
    "flapping",
    Severity.WARNING,
    "1 instance expires again and again",
    "{n} instances expire again and again",
    fix="look for pauses of worker or network, or raise --heartbeat-timeout-secs",
)
def flapping(instance: ObservedInstance) -> str:
    """An instance expires again and again, and comes back each time."""
    known = instance.known
    if known.flaps < MANY_FLAPS or not instance.beats:
        return ""
    return f"{known.flaps} times since {instance.ago(known.registered_at)}"


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
    return _drained(instance) if instance.key.type == "service" else ""


def is_loopback(host: str) -> bool:
    """Whether this is a name or an address by which any machine calls itself."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in {"localhost", "localhost.localdomain", "ip6-localhost"}


def is_this_machine(host: str) -> bool:
    """Whether a call to it reaches the machine of the caller: loopback, or an unspecified address."""
    try:
        return is_loopback(host) or ip_address(host.strip("[]")).is_unspecified
    except ValueError:
        return False


def _why_private(host: str) -> str:
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return "the host looks like a container's id" if _CONTAINER_ID.fullmatch(host) else ""
    if address.is_unspecified:
        return "it is no address to call, only one to listen on"
    if address.is_link_local:
        return "it is link-local"
    return "it is on Docker's bridge" if address.version == _DOCKER.version and address in _DOCKER else ""


def _is_for_other_machines(instance: ObservedInstance) -> bool:
    """Whether other machines have to reach it: not where the controller has a loopback address."""
    return instance.beats and not is_loopback(instance.controller.host)


def _probe_of_healthy(instance: ObservedInstance, *outcomes: ProbeOutcome) -> str:
    probe = instance.probe
    return probe.detail if probe and instance.gets_requests and probe.outcome in outcomes else ""


def _age(instance: ObservedInstance, time: datetime | None) -> timedelta | None:
    now = instance.controller.time
    return None if time is None or now is None else now - time


def _still_beats(instance: ObservedInstance) -> bool:
    """Whether a heartbeat was refused within the last heartbeat timeout."""
    status = instance.controller.status
    timeout = (status.heartbeat_timeout_secs if status else None) or DEFAULT_TIMEOUT_SECS
    age = _age(instance, instance.known.refused_at)
    return age is not None and age <= timedelta(seconds=timeout)


def _successor(old: ObservedInstance, instances: Sequence[ObservedInstance]) -> ObservedInstance | None:
    last = old.known.last_heartbeat
    if old.beats or last is None:
        return None
    for new in instances:
        elsewhere = new.beats and new.key.port == old.key.port and new.key.host != old.key.host
        registered_at = new.known.registered_at
        if elsewhere and registered_at and timedelta() <= registered_at - last <= RESTARTED:
            return new
    return None


def _last_heartbeat(instance: ObservedInstance) -> str:
    last = instance.known.last_heartbeat
    if last is None:
        return "it never beat"
    if instance.known.beat_is_local:
        return f"last heartbeat at {last:%Y-%m-%d %H:%M:%S} by the controller's own clock"
    status, age = instance.controller.status, _age(instance, last)
    interval = status.heartbeat_interval_secs if status else None
    missed = int(age.total_seconds() // interval) if interval and age else 0
    shown = f", {missed} missed (one every {interval:g}s)" if missed > 0 else ""
    return f"last heartbeat {instance.ago(last)}{shown}"


def _drained(instance: ObservedInstance) -> str:
    """When, by whom and why it was drained; "" where it is not."""
    known = instance.known
    if instance.state is not InstanceState.DRAINED:
        return ""
    if known.drained_at is None:
        return "enabled is false" if instance.controller.is_stock else "it registered with enabled: false"
    by = f" by {escaped(known.drained_by)}" if known.drained_by else ""
    why = f": {escaped(known.drain_reason)}" if known.drain_reason else ", no reason given"
    return f"drained {instance.ago(known.drained_at)}{by}{why}"
