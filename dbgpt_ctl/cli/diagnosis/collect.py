"""Collects the facts of a diagnosis: calls each controller, probes workers, and looks at this machine."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from dbgpt_ctl.cli.diagnosis.probe import MAX_ENDPOINTS, means_caller, probe_all
from dbgpt_ctl.cli.framework.session import print_request
from dbgpt_ctl.cli.output.status_line import status_line
from dbgpt_ctl.diagnosis.facts import ControllerFacts, ExposedFile, Facts, ProxiedController
from dbgpt_ctl.diagnosis.instances import MANY_FLAPS
from dbgpt_ctl.domain.events import EXPIRE, ActorKind, EventFilter
from dbgpt_ctl.domain.filters import InstanceFilter, ModelFilter
from dbgpt_ctl.domain.hosts import is_loopback
from dbgpt_ctl.domain.instance import SERVICE
from dbgpt_ctl.errors import ControllerError, CtlError, NotSupported, UsageError
from dbgpt_ctl.settings.load import DEFAULT_ENV_FILE, declared_settings, find_variables
from dbgpt_ctl.settings.masking import mask_url, mode_if_readable_by_others
from dbgpt_ctl.settings.schema import ClientSettings, ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.diagnosis.facts import Endpoint
    from dbgpt_ctl.domain.events import Event
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.settings.addresses import Address

T = TypeVar("T")
MAX_EVENTS = 20
DAY_EVENTS = 10_000
"""As many events of one day as an answer has."""
_REGISTERING = frozenset({"register", "heartbeat"})
"""A heartbeat of an unknown instance registers it."""


def collect(session: Session, model_filter: ModelFilter, *, probe: bool, ping: str | None = None) -> Facts:
    """All facts. A controller that does not answer is one of them; what else cannot be had is missing from them.

    `ping`: the level of the pings of routable instances; None sends none.
    """
    addresses = session.settings.addresses
    reports = of_each_controller(session, lambda client, url: _observe(client, url, model_filter, session.clock.now))
    facts = Facts(
        model_filter=model_filter,
        controllers=tuple(controller for controller, _ in reports),
        models=frozenset().union(*(models for _, models in reports)),
        proxies=tuple(proxied(addresses, os.environ)),
        exposed_files=tuple(exposed_files(session.env_file)),
    )
    if str(model_filter) and not facts.instances:
        return replace(facts, events=_past_of(session, facts))
    facts = replace(facts, registered_from=_registered_from(session, facts), expiries=_expiries(session, facts))
    endpoints = endpoints_of(facts) if probe or ping else []
    if probe:
        unprobed = max(0, len(endpoints) - MAX_ENDPOINTS)
        facts = replace(facts, probes=probe_all(endpoints[:MAX_ENDPOINTS]), unprobed=unprobed)
    return facts if ping is None else _pinged(session, facts, endpoints, ping)


def collect_statuses(session: Session) -> list[ControllerFacts]:
    """What each controller reports of itself, without its instances, and how long that took."""

    def observe(client: ControllerClient, url: str) -> ControllerFacts:
        began = monotonic()
        try:
            status = client.status()
        except ControllerError as error:
            return ControllerFacts(url, error)
        return ControllerFacts.of_status(url, status, latency=monotonic() - began)

    return of_each_controller(session, observe)


def of_each_controller(session: Session, call: Callable[[ControllerClient, str], T]) -> list[T]:
    """Calls all controllers at the same time, each with the whole --request-timeout; results are in their order."""
    urls = [address.url for address in session.settings.addresses]

    def run(url: str) -> T:
        with session.client(url) as client:
            return call(client, url)

    if len(urls) == 1:
        return [run(urls[0])]
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(urls)) as threads:
        return list(threads.map(run, urls))


def endpoints_of(facts: Facts) -> list[Endpoint]:
    """The addresses to probe, once each: those of healthy instances first, and of these one of each model first.

    Without those that mean the machine of the caller, unless this is the controller's machine as well.
    """
    ranked: list[tuple[bool, int, Endpoint]] = []
    for instances in facts.by_model.values():
        for turn, instance in enumerate(sorted(instances, key=lambda instance: not instance.routable)):
            if not means_caller(instance.key.host, instance.controller.host):
                ranked.append((not instance.routable, turn, instance.endpoint))
    return list(dict.fromkeys(endpoint for _, _, endpoint in sorted(ranked)))


def to_ping(facts: Facts, endpoints: Sequence[Endpoint]) -> list[InstanceKey]:
    """The routable instances at these addresses, in this order.

    Without those of the type service where a model is at the same address: they are the same process.
    """
    routable: dict[Endpoint, list[InstanceKey]] = {endpoint: [] for endpoint in endpoints}
    for instance in facts.instances:
        if instance.routable and instance.endpoint in routable:
            routable[instance.endpoint].append(instance.key)
    return [key for keys in routable.values() for key in [key for key in keys if key.type != SERVICE] or keys]


def _pinged(session: Session, facts: Facts, endpoints: Sequence[Endpoint], level: str) -> Facts:
    """With the pings. While they run, a terminal shows how many are done."""
    from dbgpt_ctl.ping.run import ping_all
    from dbgpt_ctl.ping.worker import Level, PingOptions

    keys = to_ping(facts, endpoints[:MAX_ENDPOINTS])
    done = count(1)
    with status_line(wanted=not session.quiet and not session.verbose) as draw:
        draw(f"pinging {len(keys)}")
        pings = ping_all(
            keys,
            PingOptions(level=Level(level)),
            on_result=lambda _ping: draw(f"pinging {len(keys)}: {next(done)} done"),
            observe=print_request if session.verbose and not session.quiet else None,
        )
    left_out = len(to_ping(facts, endpoints[MAX_ENDPOINTS:]))
    return replace(facts, pings={ping.key: ping for ping in pings}, unpinged=left_out)


def proxied(addresses: Iterable[Address], environ: Mapping[str, str]) -> Iterator[ProxiedController]:
    """The controllers that a client which obeys http_proxy and its like would call through a proxy."""
    variables = {
        name.lower(): (name, text) for name, text in environ.items() if name.lower().endswith("_proxy") and text
    }
    variables |= {name: (name, environ[name]) for name in variables if environ.get(name)}  # lower case wins
    if not variables.keys() - {"no_proxy"}:
        return
    from urllib.parse import urlsplit
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    excepted = {"no": variables.get("no_proxy", ("", ""))[1]}
    for address in addresses:
        parts = urlsplit(address.url)
        found = variables.get(f"{parts.scheme}_proxy") or variables.get("all_proxy")
        host = parts.hostname or ""
        if found and not proxy_bypass_environment(host, excepted):
            yield ProxiedController(address.url, host, found[0], ascii(mask_url(found[1]))[1:-1])


def exposed_files(env_file: str | None) -> Iterator[ExposedFile]:
    """The .env file that is named, else the one that a controller would read here, if it holds a secret and others than
    its owner may read it.
    """
    if env_file == "":
        return
    path = str(Path(env_file or DEFAULT_ENV_FILE).expanduser())
    mode = mode_if_readable_by_others(path)
    with suppress(UsageError):
        if mode is not None and _holds_secret(env_file):
            yield ExposedFile(path, mode)


def _observe(
    client: ControllerClient, url: str, model_filter: ModelFilter, now: Callable[[], datetime]
) -> tuple[ControllerFacts, frozenset[str]]:
    """One controller's facts and the names of all its models.

    Of a controller with /api/v1 only the instances that pass the filter are listed; DB-GPT's own lists all.
    """
    before, status = now(), None
    try:
        with suppress(NotSupported):
            status = client.status()
        after = now()
        names: Sequence[str | None] = [None]
        if status and status.models is not None and str(model_filter):
            names = sorted(filter(model_filter.matches, status.counts))
        inventories = [client.inventory(InstanceFilter(ModelFilter(name))) for name in names]
    except ControllerError as error:
        return ControllerFacts(url, error), frozenset()
    instances = tuple(known for inventory in inventories for known in inventory.instances if not known.removed)
    report, after = status or inventories[0], after if status else now()
    reports = [report, *inventories]  # the registry may go away, or come back, between two answers
    stale_since = next((each.stale_since for each in reports if each.stale_since), None)
    facts = ControllerFacts(
        url=url,
        time=next((inventory.time for inventory in inventories if inventory.time), report.time) or before,
        skew=None if report.time is None or stale_since else report.time - (before + (after - before) / 2),
        status=status,
        stale_since=stale_since,
        held_until=next((each.held_until for each in reports if each.held_until), None),
        instances=instances,
    )
    return facts, frozenset(status.counts if status else (known.model_name for known in instances))


def _past_of(session: Session, facts: Facts) -> tuple[Event, ...]:
    """What happened to a model that has no instance any more, oldest first."""
    wanted = facts.model_filter
    where = EventFilter(wanted.model_name, wanted.name)
    events: dict[tuple[str, int], Event] = {}
    for controller in facts.answering:
        if controller.is_stock:
            continue
        with session.client(controller.url) as client, suppress(CtlError):
            page = client.events(where=where, limit=MAX_EVENTS)
            events |= {(page.stream, event.id): event for event in page.events}
    return tuple(sorted(events.values(), key=lambda event: (event.change.time, event.id)))


def _registered_from(session: Session, facts: Facts) -> dict[InstanceKey, str]:
    """From where the workers of loopback hosts called, as the newest events say; one call, and none without such."""
    local = {
        instance.key: instance.controller.url
        for instance in facts.instances
        if instance.is_healthy
        and is_loopback(instance.key.host)
        and is_loopback(instance.controller.host)
        and not instance.controller.is_stock
    }
    found: dict[InstanceKey, str] = {}
    for url in dict.fromkeys(local.values()):
        with session.client(url) as client, suppress(CtlError):
            for change in (event.change for event in client.events().events):
                actor = change.cause.actor
                if change.cause.verb in _REGISTERING and actor.kind is ActorKind.WORKER and actor.address:
                    found[change.key] = actor.address
    return {key: address for key, address in found.items() if key in local and not is_loopback(address)}


def _expiries(session: Session, facts: Facts) -> Counter[InstanceKey]:
    """How often instances expired within the last day, as the events say. Nothing is asked of a controller whose
    instances expired seldom since they were registered.
    """
    found: Counter[InstanceKey] = Counter()
    for controller in facts.answering:
        mine = {each.key for each in facts.instances if each.controller is controller and each.flaps >= MANY_FLAPS}
        if mine and controller.time is not None:
            with session.client(controller.url) as client, suppress(CtlError):
                where = EventFilter(verb=EXPIRE, since=controller.time - timedelta(days=1))
                found.update(event.change.key for event in client.events(where=where, limit=DAY_EVENTS).events)
    return found


def _holds_secret(env_file: str | None) -> bool:
    variables = find_variables({}, env_file)
    settings = {
        setting.variable: setting
        for setting in (*declared_settings(ControllerSettings), *declared_settings(ClientSettings))
    }
    return any(name in settings and settings[name].kind.holds_secret(found.text) for name, found in variables.items())
