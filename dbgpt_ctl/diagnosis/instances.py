"""Rules about instances: why one gets no requests (its state), and why its requests fail (its address)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.diagnosis.facts import (
    ALL_BUT_LIST,
    ProbeOutcome,
    Scope,
    Severity,
    instance_rule,
)
from dbgpt_ctl.domain.instance import SERVICE, InstanceState
from dbgpt_ctl.text.escaping import escaped, shell_argument

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dbgpt_ctl.diagnosis.facts import ObservedInstance
    from dbgpt_ctl.wire.status import Status

LONG_DRAIN = timedelta(hours=24)
DEFAULT_TIMEOUT_SECS = 60.0
"""The heartbeat timeout where the controller does not report it."""
MANY_FLAPS = 3
FEW = 3
"""A fix names at most this many instances."""


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


def removal_of(instances: Sequence[ObservedInstance]) -> str:
    """The command that removes them; empty where they are too many for one."""
    if len(instances) > FEW:
        return ""
    who = "" if any(instance.controller.is_stock for instance in instances) else "; ctl events says who registered it"
    return f"ctl models deregister {_references(instances)} --remove{who}"


def _some_references(instances: Sequence[ObservedInstance]) -> str:
    return _references(instances) if len(instances) <= FEW else "REF"


def _references(instances: Sequence[ObservedInstance]) -> str:
    return " ".join(shell_argument(instance.reference) for instance in instances)


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
    if not instance.is_healthy or instance.key.type == SERVICE or _is_drained_long(instance):
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
    is_other = _is_drained_long(instance) or died_before_drain(instance)
    return "" if instance.state is not InstanceState.UNHEALTHY or is_other else _drained(instance)


@instance_rule(
    "drained-after-expiry",
    Severity.WARNING,
    "1 instance was drained after it had expired: that is no planned work",
    "{n} instances were drained after they had expired: that is no planned work",
    fix="start its worker, and then ctl models undrain REF; if it is gone for good: ctl models deregister REF --remove",
    scope=ALL_BUT_LIST,
)
def drained_after_expiry(instance: ObservedInstance) -> str:
    """An instance expired, and an operator drained it afterwards: its worker did not stop because of the drain."""
    return _drained(instance) if died_before_drain(instance) else ""


@instance_rule(
    "drained-long",
    Severity.INFO,
    "1 instance has been drained for more than a day",
    "{n} instances have been drained for more than a day",
    fix="ctl models undrain REF, or deregister it",
    fix_of=_undrain,
    scope=ALL_BUT_LIST,
)
def drained_long(instance: ObservedInstance) -> str:
    """An instance is drained for more than a day, and only an undrain ends that: it may have been forgotten."""
    return _drained(instance) if _is_drained_long(instance) and not died_before_drain(instance) else ""


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
    """An instance expires again and again within a day, and comes back each time. A drained one may: work goes on
    there.
    """
    if instance.expiries < MANY_FLAPS or not instance.is_healthy or instance.drain is not None:
        return ""
    return f"{instance.expiries} times within a day, {instance.flaps} since {instance.ago(instance.registered_at)}"


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
    is_hidden = instance.is_healthy and instance.key.type == SERVICE and not _is_drained_long(instance)
    return _drained(instance) if is_hidden else ""


def age_of(instance: ObservedInstance, time: datetime | None) -> timedelta | None:
    """At the time of the list; None where that or `time` is unknown."""
    now = instance.controller.as_of
    return None if time is None or now is None else now - time


def last_heartbeat_text(instance: ObservedInstance) -> str:
    """When the last heartbeat came, and how many are missing since."""
    last = instance.last_heartbeat
    if last is None:
        return "it never beat"
    if instance.beat_is_local:
        return f"last heartbeat at {last:%Y-%m-%d %H:%M:%S} by the controller's own clock"
    controller, age = instance.controller, age_of(instance, last)
    was_away = controller.stale_since or controller.held_until  # then nobody knows what was sent
    interval = controller.status.heartbeat_interval_secs if controller.status and not was_away else None
    missed = int(age.total_seconds() // interval) if interval and age else 0
    shown = f", {missed} missed (one every {interval:g}s)" if missed > 0 else ""
    return f"last heartbeat {instance.ago(last)}{shown}"


def timeout_of(status: Status | None) -> timedelta:
    """The heartbeat timeout of a controller, or the default where it reports none."""
    return timedelta(seconds=(status.heartbeat_timeout_secs if status else None) or DEFAULT_TIMEOUT_SECS)


def _probe_of_healthy(instance: ObservedInstance, *outcomes: ProbeOutcome) -> str:
    probe = instance.failed_probe
    return probe.detail if probe and instance.routable and probe.outcome in outcomes else ""


def _still_beats(instance: ObservedInstance) -> bool:
    """Whether a heartbeat was refused within the last heartbeat timeout."""
    age = age_of(instance, instance.refused_at)
    return age is not None and age <= timeout_of(instance.controller.status)


def _drained(instance: ObservedInstance) -> str:
    """When, by whom, why and until when it was drained, and whether its worker is silent; "" where it is not."""
    drain = instance.drain
    if drain is None:
        return ""
    silent = f"; {last_heartbeat_text(instance)}" if instance.state is InstanceState.UNHEALTHY else ""
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
    age = age_of(instance, drain.since or instance.registered_at)
    return age is not None and age > LONG_DRAIN


def died_before_drain(instance: ObservedInstance) -> bool:
    """Whether it is unhealthy, and was so when it was drained."""
    last = instance.last_heartbeat or instance.registered_at
    since = instance.drain.since if instance.drain else None
    if instance.state is not InstanceState.UNHEALTHY or last is None or since is None:
        return False
    return since > last + timeout_of(instance.controller.status)
