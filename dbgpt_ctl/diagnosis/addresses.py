"""Rules about the addresses of instances: why requests to an instance fail, or reach another one."""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import timedelta
from ipaddress import ip_network
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dbgpt_ctl.diagnosis.facts import (
    Evidence,
    Facts,
    Finding,
    Severity,
    instance_rule,
    rule,
)
from dbgpt_ctl.diagnosis.instances import removal_of
from dbgpt_ctl.domain.hosts import addresses_of, is_loopback, metadata_service
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from dbgpt_ctl.diagnosis.facts import ControllerFacts, ObservedInstance
    from dbgpt_ctl.domain.instance import InstanceKey

RESTARTED = timedelta(minutes=10)
"""A worker that comes back under another address registers within this time of its last heartbeat."""
_DOCKER = ip_network("172.17.0.0/16")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")
_REGISTER_HOST = "set the worker's worker_register_host to an address that API servers can reach, and restart it"


@instance_rule(
    "metadata-address",
    Severity.ERROR,
    "1 instance is registered under the metadata address of a cloud: an API server that calls it returns its answer",
    "{n} instances are registered under metadata addresses of clouds: API servers that call them return the answers",
    fix="ctl models deregister REF --remove; ctl events REF says who registered it",
    fix_of=removal_of,
)
def metadata(instance: ObservedInstance) -> str:
    """An instance has the address of a cloud's metadata service, which gives a machine its credentials. Controllers
    refuse it; an older one took it.
    """
    service = metadata_service(instance.key.host)
    return f"{escaped(instance.key.host)} is {service[0]}, of {service[1]}" if service else ""


@instance_rule(
    "loopback-address",
    Severity.ERROR,
    "1 instance is registered under a loopback address: other machines call themselves there",
    "{n} instances are registered under loopback addresses: other machines call themselves there",
    fix=_REGISTER_HOST,
)
def loopback(instance: ObservedInstance) -> str:
    """A worker is registered under a loopback address, such as 127.0.0.1, and the controller, or one of the same
    registry, is on another machine.
    """
    if not is_loopback(instance.key.host) or not _is_for_other_machines(instance):
        return ""
    machines = ", ".join(escaped(host) for host in _machines(instance.controller))
    shared = f"; controllers of its registry are on {machines}" if is_loopback(instance.controller.host) else ""
    return f"listed by {instance.controller.url}{shared}"


@rule("loopback-from-elsewhere", fix=_REGISTER_HOST)
def loopback_from_elsewhere(facts: Facts) -> Iterator[Finding]:
    """A worker is registered under a loopback address, and called the controller from another one: it seems to be on
    another machine, or in a container.
    """
    callers = facts.registered_from
    instances = [each for each in facts.instances if each.key in callers and not _is_for_other_machines(each)]
    if instances:
        one, many = "1 instance is", f"{len(instances)} instances are"
        summary = f"{one if len(instances) == 1 else many} registered under a loopback address from another address"
        evidence = (
            Evidence(f"its worker called from {escaped(callers[each.key])}", each.reference) for each in instances
        )
        yield Finding(Severity.WARNING, summary, tuple(evidence), keys=tuple(each.key for each in instances))


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
    host = instance.key.host
    why = "" if metadata_service(host) else _why_private(host)
    return why if why and _is_for_other_machines(instance) else ""


@rule("moved", fix="ctl models deregister OLD --remove; give the worker a fixed worker_register_host")
def moved(facts: Facts) -> Iterator[Finding]:
    """A worker seems to have come back under another address: the same model and port, registered when the old
    instance fell silent.
    """
    evidence: dict[InstanceKey, Evidence] = {}
    for instances in facts.by_model.values():
        newcomers = _newcomers(instances)
        for old in instances:
            if (new := _successor(old, newcomers)) is not None:
                registered = f"{new.reference} registered {old.ago(new.registered_at)}"
                detail = f"silent since {old.ago(old.last_heartbeat)}; {registered}"
                evidence[old.key] = Evidence(detail, old.reference)
    if evidence:
        many = f"{len(evidence)} instances seem to have come back under other addresses"
        summary = "1 instance seems to have come back under another address" if len(evidence) == 1 else many
        yield Finding(Severity.INFO, summary, tuple(evidence.values()), keys=tuple(evidence))


def _why_private(host: str) -> str:
    addresses = addresses_of(host)
    if not addresses:
        return "the host looks like a container's id" if _CONTAINER_ID.fullmatch(host) else ""
    if any(address.is_unspecified for address in addresses):
        return "it is no address to call, only one to listen on"
    if any(address.is_link_local for address in addresses):
        return "it is link-local"
    return "it is on Docker's bridge" if any(address in _DOCKER for address in addresses) else ""


def _is_for_other_machines(instance: ObservedInstance) -> bool:
    """Whether other machines have to reach it: not where all is on the machine of the caller."""
    controller = instance.controller
    return instance.is_healthy and (not is_loopback(controller.host) or len(_machines(controller)) > 1)


def _machines(controller: ControllerFacts) -> list[str]:
    """The hosts at which the living controllers of its registry listen, without loopback."""
    records = controller.status.records if controller.status else ()
    hosts = {_host_in(record.address) for record in records}
    return sorted(host for host in hosts if host and not is_loopback(host))


def _host_in(address: str) -> str:
    """Empty where the address is none: any program may have written it into the shared database."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _newcomers(instances: Sequence[ObservedInstance]) -> dict[int, list[tuple[datetime, ObservedInstance]]]:
    """Those that are alive, with the time when they registered, by port and in the order of that time."""
    found: dict[int, list[tuple[datetime, ObservedInstance]]] = {}
    for instance in instances:
        if instance.is_healthy and not instance.held and instance.registered_at is not None:
            found.setdefault(instance.port, []).append((instance.registered_at, instance))
    return {port: sorted(each, key=itemgetter(0)) for port, each in found.items()}


def _successor(
    old: ObservedInstance, newcomers: Mapping[int, Sequence[tuple[datetime, ObservedInstance]]]
) -> ObservedInstance | None:
    last = old.last_heartbeat
    if old.is_healthy or last is None or old.drain is not None:
        return None
    registered = newcomers.get(old.port, ())
    for registered_at, new in islice(registered, bisect_left(registered, last, key=itemgetter(0)), None):
        if registered_at - last > RESTARTED:
            return None
        if new.host != old.host:
            return new
    return None
