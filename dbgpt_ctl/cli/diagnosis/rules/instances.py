"""Rules about instances: why one gets no requests (its state), and why its requests fail (its address)."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address, ip_network
from shlex import quote
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Finding, ProbeOutcome, Scope, Severity, of_instances, rule
from dbgpt_ctl.cli.output.escaping import escaped
from dbgpt_ctl.domain.instance import InstanceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.diagnosis.facts import Facts, ObservedInstance

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


@rule("loopback-address", fix=_REGISTER_HOST)
def loopback(facts: Facts) -> Iterator[Finding]:
    """A worker is registered under a loopback address, such as 127.0.0.1, and the controller is on another machine."""
    instances = [instance for instance in _for_other_machines(facts) if is_loopback(instance.key.host)]
    one = "1 instance is registered under a loopback address: other machines call themselves there"
    many = "{n} instances are registered under loopback addresses: other machines call themselves there"
    yield from of_instances(
        Severity.ERROR, instances, one, many, lambda instance: f"listed by {instance.controller.url}"
    )


@rule("container-address", fix=_REGISTER_HOST)
def container(facts: Facts) -> Iterator[Finding]:
    """A worker is registered under an address that is valid on its own machine only: Docker's bridge, a container's
    id, 0.0.0.0, link-local.
    """
    instances = [instance for instance in _for_other_machines(facts) if _why_private(instance.key.host)]
    one = "1 instance is registered under an address that other machines hardly reach"
    many = "{n} instances are registered under addresses that other machines hardly reach"
    yield from of_instances(Severity.WARNING, instances, one, many, lambda instance: _why_private(instance.key.host))


@rule("expired", fix="start the worker again, or see in its log why its heartbeats do not arrive at this controller")
def expired(facts: Facts) -> Iterator[Finding]:
    """An instance is unhealthy: its last heartbeat is older than the heartbeat timeout."""
    instances = _in_state(facts, InstanceState.UNHEALTHY)
    one, many = "1 instance sends no heartbeats any more", "{n} instances send no heartbeats any more"
    can_prune = len(instances) > FEW and not any(instance.controller.is_stock for instance in instances)
    fix = "if they are gone for good: ctl models prune --older-than 1d" if can_prune else ""
    yield from of_instances(
        Severity.WARNING, instances, one, many, lambda instance: _last_heartbeat(facts, instance), fix
    )


@rule("moved", fix="ctl models deregister OLD --remove; give the worker a fixed worker_register_host")
def moved(facts: Facts) -> Iterator[Finding]:
    """A worker seems to have come back under another address: the same model and port, registered when the old
    instance fell silent.
    """
    successors = {
        old: new
        for instances in facts.by_model.values()
        for old in instances
        if (new := _successor(old, instances)) is not None
    }
    one = "1 instance seems to have come back under another address"
    many = "{n} instances seem to have come back under other addresses"
    yield from of_instances(
        Severity.INFO,
        list(successors),
        one,
        many,
        lambda old: (
            f"silent since {old.ago(old.known.last_heartbeat)}; {successors[old].reference} registered "
            f"{old.ago(successors[old].known.registered_at)}"
        ),
    )


@rule("drained", fix="ctl models undrain REF")
def drained(facts: Facts) -> Iterator[Finding]:
    """An operator drained an instance: it sends heartbeats and gets no requests."""
    instances = [instance for instance in _in_state(facts, InstanceState.DRAINED) if instance.key.type != "service"]
    one, many = "1 instance is drained: it gets no requests", "{n} instances are drained: they get no requests"
    yield from of_instances(Severity.INFO, instances, one, many, _drained_by, _undrain(instances))


@rule("drained-long", fix="ctl models undrain REF, or deregister it", scope=Scope.OVERVIEW)
def drained_long(facts: Facts) -> Iterator[Finding]:
    """An instance is drained for more than a day: it may have been forgotten."""
    instances = [
        instance
        for instance in _in_state(facts, InstanceState.DRAINED)
        if (age := _age(instance, instance.known.drained_at)) is not None and age > LONG_DRAIN
    ]
    one, many = "1 instance has been drained for more than a day", "{n} instances have been drained for more than a day"
    yield from of_instances(Severity.WARNING, instances, one, many, _drained_by, _undrain(instances))


@rule(
    "deregistered-beating",
    fix="ctl models register REF, or restart the worker: only a register brings it back",
    scope=Scope.MODEL | Scope.CLUSTER | Scope.OVERVIEW,
)
def deregistered_beating(facts: Facts) -> Iterator[Finding]:
    """An instance was deregistered, and its worker still runs and sends heartbeats: these do not revive it."""
    instances = [instance for instance in _in_state(facts, InstanceState.DEREGISTERED) if _still_beats(instance)]
    one = "1 instance was deregistered, and its worker still beats: its heartbeats are refused"
    many = "{n} instances were deregistered, and their workers still beat: their heartbeats are refused"
    fix = f"ctl models register {_references(instances)}, or restart the worker" if 0 < len(instances) <= FEW else ""
    yield from of_instances(
        Severity.ERROR,
        instances,
        one,
        many,
        lambda instance: (
            f"deregistered {instance.ago(instance.known.deregistered_at)}, "
            f"last heartbeat refused {instance.ago(instance.known.refused_at)}"
        ),
        fix,
    )


@rule("deregistered", fix="start its worker, if it should serve; ctl models prune --older-than 1d forgets it")
def deregistered(facts: Facts) -> Iterator[Finding]:
    """An instance was deregistered: its worker stopped, or an operator took it out of service."""
    instances = [instance for instance in _in_state(facts, InstanceState.DEREGISTERED) if not _still_beats(instance)]
    one, many = "1 instance is deregistered", "{n} instances are deregistered"
    yield from of_instances(
        Severity.INFO, instances, one, many, lambda instance: instance.ago(instance.known.deregistered_at)
    )


@rule("port-closed", fix="start the worker, or correct its worker_register_host and port: nothing listens there")
def port_closed(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and nothing listens at its address, as seen from here."""
    one = "1 instance gets requests, and its port is closed"
    many = "{n} instances get requests, and their ports are closed"
    yield from _of_probes(facts, Severity.ERROR, (ProbeOutcome.REFUSED,), one, many)


@rule("wrong-service", fix="correct the worker's worker_register_host and port, or stop what took its port")
def wrong_service(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and what answers at its address is not a DB-GPT worker."""
    one = "1 instance gets requests, and what answers there is no DB-GPT worker"
    many = "{n} instances get requests, and what answers there is no DB-GPT worker"
    yield from _of_probes(facts, Severity.ERROR, (ProbeOutcome.OTHER,), one, many)


@rule("no-answer", fix="run ctl why on an API server's machine: firewalls may admit it and not this machine")
def no_answer(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and its address cannot be reached from here: a firewall, or a name that only other
    machines know.
    """
    one = "1 instance gets requests, and cannot be reached from here"
    many = "{n} instances get requests, and cannot be reached from here"
    yield from _of_probes(facts, Severity.WARNING, (ProbeOutcome.SILENT, ProbeOutcome.FAILED), one, many)


@rule("flapping", fix="look for pauses of worker or network, or raise --heartbeat-timeout-secs")
def flapping(facts: Facts) -> Iterator[Finding]:
    """An instance expires again and again, and comes back each time."""
    instances = [instance for instance in facts.instances if instance.known.flaps >= MANY_FLAPS and instance.beats]
    one, many = "1 instance expires again and again", "{n} instances expire again and again"
    yield from of_instances(
        Severity.WARNING,
        instances,
        one,
        many,
        lambda instance: f"{instance.known.flaps} times since {instance.ago(instance.known.registered_at)}",
    )


@rule("drained-service", fix="ctl models undrain REF")
def drained_service(facts: Facts) -> Iterator[Finding]:
    """An instance of type service is drained: `dbgpt model stop` and `start` cannot find its worker."""
    instances = [instance for instance in _in_state(facts, InstanceState.DRAINED) if instance.key.type == "service"]
    one = "1 instance of type service is drained: dbgpt model stop and start do not find its worker"
    many = "{n} instances of type service are drained: dbgpt model stop and start do not find their workers"
    yield from of_instances(Severity.WARNING, instances, one, many, _drained_by, _undrain(instances))


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


def _for_other_machines(facts: Facts) -> list[ObservedInstance]:
    """Instances that beat, but not where the controller has a loopback address: there one is right for workers too."""
    return [instance for instance in facts.instances if instance.beats and not is_loopback(instance.controller.host)]


def _in_state(facts: Facts, state: InstanceState) -> list[ObservedInstance]:
    return [instance for instance in facts.instances if instance.state is state]


def _of_probes(
    facts: Facts, severity: Severity, outcomes: Sequence[ProbeOutcome], one: str, many: str
) -> Iterator[Finding]:
    """One finding for the healthy instances whose probe came out like that."""
    details = {
        instance: probe.detail
        for instance in facts.instances
        if instance.gets_requests and (probe := facts.probe_of(instance)) and probe.outcome in outcomes
    }
    yield from of_instances(severity, list(details), one, many, details.__getitem__)


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


def _last_heartbeat(facts: Facts, instance: ObservedInstance) -> str:
    known = instance.known
    if known.last_heartbeat is None:
        text = "it never beat"
    elif known.beat_is_local:
        text = f"last heartbeat at {known.last_heartbeat:%Y-%m-%d %H:%M:%S} by the controller's own clock"
    else:
        text = f"last heartbeat {instance.ago(known.last_heartbeat)}{_missed(instance)}"
    if instance.controller.is_stock:
        text += "; or it was deregistered: this controller reports both the same"
    if known.flaps > 1:
        text += f"; expired {known.flaps} times"
    return text + _probed(facts, instance)


def _missed(instance: ObservedInstance) -> str:
    status, age = instance.controller.status, _age(instance, instance.known.last_heartbeat)
    if status is None or not status.heartbeat_interval_secs or age is None:
        return ""
    missed = int(age.total_seconds() // status.heartbeat_interval_secs)
    return f", {missed} missed (one every {status.heartbeat_interval_secs:g}s)" if missed > 0 else ""


def _probed(facts: Facts, instance: ObservedInstance) -> str:
    """What the probe of its address shows about its silence."""
    probe = facts.probe_of(instance)
    if probe is None:
        return ""
    if probe.outcome is ProbeOutcome.WORKER:
        return "; a worker answers there: it runs, and its heartbeats do not reach this controller"
    return f"; {probe.detail}"


def _drained_by(instance: ObservedInstance) -> str:
    known = instance.known
    if known.drained_at is None:
        return "enabled is false" if instance.controller.is_stock else "it registered with enabled: false"
    by = f" by {escaped(known.drained_by)}" if known.drained_by else ""
    why = f": {escaped(known.drain_reason)}" if known.drain_reason else ", no reason given"
    return f"drained {instance.ago(known.drained_at)}{by}{why}"


def _undrain(instances: Sequence[ObservedInstance]) -> str:
    if any(instance.controller.is_stock for instance in instances):
        return "this controller has no undrain: ctl models deregister REF --remove, then register it anew"
    if len(instances) > FEW:
        return "ctl models list --state drained -o name | xargs -d '\\n' ctl models undrain"
    return f"ctl models undrain {_references(instances)}" if instances else ""


def _references(instances: Sequence[ObservedInstance]) -> str:
    return " ".join(quote(instance.reference) for instance in instances)
