"""Rules about the addresses of instances: why one gets requests that fail."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import Knock
from dbgpt_ctl.cli.diagnosis.findings import Finding, Severity, of_instances, rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbgpt_ctl.cli.diagnosis.facts import Facts, Seen

RESTARTED = timedelta(minutes=10)
"""A worker that comes back under another address does so within about that time of its last beat."""
_DOCKER = ip_network("172.17.0.0/16")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")
_REGISTER_HOST = "set the worker's worker_register_host to an address that API servers can reach, and restart it"


@rule("loopback-address", fix=_REGISTER_HOST)
def loopback(facts: Facts) -> Iterator[Finding]:
    """A worker is registered under a loopback address, such as 127.0.0.1, and the controller is on another machine."""
    those = [each for each in facts.seen if each.beats and is_loopback(each.key.host) and not _is_local(facts, each)]
    one = "1 instance is registered under a loopback address: others reach themselves there"
    many = "{n} instances are registered under loopback addresses: others reach themselves there"
    yield from of_instances(Severity.ERROR, those, one, many, lambda each: f"listed by {each.controller}")


@rule("container-address", fix=_REGISTER_HOST)
def container(facts: Facts) -> Iterator[Finding]:
    """A worker is registered under an address that means something only on its own machine: Docker's bridge, a
    container's id, 0.0.0.0, link-local.
    """
    those = [each for each in facts.seen if each.beats and _why_private(each.key.host) and not _is_local(facts, each)]
    one = "1 instance is registered under an address that other machines hardly reach"
    many = "{n} instances are registered under addresses that other machines hardly reach"
    yield from of_instances(Severity.WARNING, those, one, many, lambda each: _why_private(each.key.host))


@rule("port-closed", fix="start the worker, or mend worker_register_host and port: nothing listens where it says")
def port_closed(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and nothing listens at its address, seen from here."""
    those = _healthy_that(facts, Knock.REFUSED)
    one, many = (
        "1 instance gets requests, and its port is closed",
        "{n} instances get requests, and their ports are closed",
    )
    yield from of_instances(Severity.ERROR, those, one, many, lambda each: _detail(facts, each))


@rule("wrong-service", fix="mend the worker's worker_register_host and port, or what took its port")
def wrong_service(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and what answers at its address is no DB-GPT worker."""
    those = _healthy_that(facts, Knock.OTHER)
    one = "1 instance gets requests, and what answers there is no DB-GPT worker"
    many = "{n} instances get requests, and what answers there is no DB-GPT worker"
    yield from of_instances(Severity.ERROR, those, one, many, lambda each: _detail(facts, each))


@rule("no-answer", fix="run ctl why on an API server's machine: firewalls may let it in and not you")
def no_answer(facts: Facts) -> Iterator[Finding]:
    """An instance gets requests, and its address cannot be reached from here: a firewall, or a name that
    only others know.
    """
    those = _healthy_that(facts, Knock.SILENT, Knock.FAILED)
    one = "1 instance gets requests, and cannot be reached from here"
    many = "{n} instances get requests, and cannot be reached from here"
    yield from of_instances(Severity.WARNING, those, one, many, lambda each: _detail(facts, each))


@rule("moved", fix="ctl models deregister OLD --remove; give the worker a fixed worker_register_host")
def moved(facts: Facts) -> Iterator[Finding]:
    """A worker seems to have come back under another address: same model and port, registered when the old went
    silent.
    """
    news = {old: new for those in facts.by_model.values() for old in those if (new := _successor(old, those))}
    one = "1 instance seems to have come back under another address"
    many = "{n} instances seem to have come back under other addresses"
    yield from of_instances(
        Severity.INFO,
        list(news),
        one,
        many,
        lambda each: (
            f"silent since {each.ago(each.last_heartbeat)}; {news[each].reference} registered "
            f"{each.ago(news[each].registered_at)}"
        ),
    )


def is_loopback(host: str) -> bool:
    """Whether this is a name or an address of the machine itself, for whoever uses it."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") in {"localhost", "localhost.localdomain", "ip6-localhost"}


def means_here(host: str) -> bool:
    """Whether to call it is to call oneself: loopback, or no address at all."""
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


def _is_local(facts: Facts, seen: Seen) -> bool:
    """The controller itself is addressed so that only this machine reaches it: then loopback is fine for workers."""
    return is_loopback(facts.controller_of(seen).host)


def _healthy_that(facts: Facts, *knocks: Knock) -> list[Seen]:
    probes = ((each, facts.probe_of(each)) for each in facts.seen if each.gets_requests)
    return [each for each, probe in probes if probe and probe.knock in knocks]


def _detail(facts: Facts, seen: Seen) -> str:
    probe = facts.probe_of(seen)
    return probe.detail if probe else ""


def _successor(old: Seen, those: Sequence[Seen]) -> Seen | None:
    if old.beats or old.last_heartbeat is None:
        return None
    for each in those:
        elsewhere = each.beats and each.key.port == old.key.port and each.key.host != old.key.host
        if elsewhere and each.registered_at and timedelta() <= each.registered_at - old.last_heartbeat <= RESTARTED:
            return each
    return None
