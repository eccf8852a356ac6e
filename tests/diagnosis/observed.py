"""Invented facts for the tests of a diagnosis: instances, controllers and clusters at the time NOW."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.diagnosis.facts import ControllerFacts, Endpoint, Facts, Probe, ProbeOutcome
from dbgpt_ctl.domain.controllers import ControllerRecord
from dbgpt_ctl.domain.filters import ModelFilter
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.domain.ping_results import Ping, PingResult
from dbgpt_ctl.wire.auth import AuthOfStatus, AuthTokensFile, ExpiringToken, RefusedWorkerObject
from dbgpt_ctl.wire.status import (
    AboutController,
    AboutRegistry,
    CheckObject,
    ModelCounts,
    RegistrySettings,
    SharingController,
    Status,
    Tls,
)

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
URL, OTHER = "http://ctl-1:8000", "http://ctl-2:8000"
UNHEALTHY, DEREGISTERED = InstanceState.UNHEALTHY, InstanceState.DEREGISTERED


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def known(model: str = "qwen@llm", host: str = "10.0.0.4", port: int = 8001, **facts: Any) -> KnownInstance:
    """An instance as a controller reports it; healthy unless `facts` say otherwise."""
    defaults: dict[str, Any] = {"time": NOW, "last_heartbeat": ago(3), "registered_at": ago(3600)}
    return KnownInstance(model, host, port, **(defaults | facts))


def drained(
    *where: Any,
    since: float | None = None,
    by: str | None = None,
    reason: str | None = None,
    left: float | None = None,
    **facts: Any,
) -> KnownInstance:
    """An instance that was drained `since` seconds ago, for `left` seconds more. The arguments of `known` go before."""
    begin = None if since is None else ago(since)
    end = None if left is None else ago(-left)
    return known(*where, drain=DrainFacts(begin, by, reason, end), enabled=False, **facts)


OF_CONTROLLER = {"version": "1", "started_at": ago(86400), "leaving": False}
OF_REGISTRY = {"kind": "mysql", "place": "db1:3306/dbgpt", "durable": True, "ready": True, "reason": None}
SETTINGS = {"heartbeat_interval_secs": 20.0, "heartbeat_timeout_secs": 60.0, "max_instances": 200_000}


def status(**facts: Any) -> Status:
    """What a controller reports; a fact of the controller, of the registry or of the settings goes into that part."""
    parts = [
        {name: facts.pop(name, default) for name, default in defaults.items()}
        for defaults in (OF_CONTROLLER, OF_REGISTRY, SETTINGS)
    ]
    models: dict[str, ModelCounts] | None = facts.pop("models", {})
    others: dict[str, Any] = dict.fromkeys(("auth", "connections", "tls")) | {
        "time": NOW,
        "controller": AboutController(**parts[0]),
        "registry": AboutRegistry(**parts[1]),
        "settings": RegistrySettings(**parts[2]),
        "checks": list(map(CheckObject.of, facts.pop("checks", ()))),
        "controllers": list(map(SharingController.of, facts.pop("controllers", ()))),
        "models": None if models is None else [replace(models[name], model_name=name) for name in models],
        "readers_dropped": 0,
        "watchers": 0,
        "last_event_id": 0,
    }
    return Status(**(others | facts))


def auth(mode: str = "enforce", *, is_open: bool = False, **tokens_file: Any) -> AuthOfStatus:
    """What a controller reports of its check; with a tokens file where `tokens_file` has a fact of it."""
    defaults: dict[str, Any] = {
        "digest": "0123456789ab",
        "tokens": 3,
        "problem": None,
        "readable_by_others": None,
        "expiring": [],
    }
    file = AuthTokensFile(**(defaults | tokens_file)) if tokens_file else None
    return AuthOfStatus(mode=mode, mode_origin="setting", open=is_open, tokens_file=file)


def checking(mode: str = "enforce", url: str = URL, **facts: Any) -> ControllerFacts:
    """A controller that reports how it checks its callers. The other arguments are those of `auth`."""
    return controller(url=url, status=status(auth=auth(mode, **facts)))


def refusing(*workers: RefusedWorkerObject, url: str = URL, **facts: Any) -> dict[str, Any]:
    """The URL and the status of a controller that refuses these workers; facts of its status go before."""
    return {"url": url, "status": status(auth=replace(auth(tokens=3), refused_workers=list(workers)), **facts)}


def refused(
    source: str = "10.0.0.4", reason: str = "none", *, age: float = 3, count: int = 12, **facts: Any
) -> RefusedWorkerObject:
    """A worker whose heartbeats were refused, the last one `age` seconds ago."""
    model_name, host, port = facts.pop("key", None) or (None, None, None)
    defaults: dict[str, Any] = {"token": None, "model_name": model_name, "host": host, "port": port}
    return RefusedWorkerObject(reason=reason, source=source, count=count, last_secs_ago=age, **(defaults | facts))


def expiring(name: str, left: timedelta) -> dict[str, Any]:
    """A fact of a tokens file."""
    return {"expiring": [ExpiringToken(name=name, expires=NOW + left)]}


def with_tls(
    url: str = URL, port: int | None = 8443, *, left_days: float = 90, problem: str | None = None
) -> ControllerFacts:
    """A controller that reports its https; None for `port`: it has none."""
    tls = None if port is None else Tls(port=port, not_after=NOW + timedelta(days=left_days), problem=problem)
    return controller(url=url, status=status(tls=tls))


def record(address: str, timeout_secs: float = 60) -> ControllerRecord:
    """A controller that shares a registry with others. They started in the order of their addresses."""
    timeout, interval = timedelta(seconds=timeout_secs), timedelta(seconds=20)
    return ControllerRecord(address, "1", address, timeout, interval, NOW, NOW)


def controller(*instances: KnownInstance, url: str = URL, **facts: Any) -> ControllerFacts:
    defaults: dict[str, Any] = {"time": NOW, "skew": timedelta(), "status": status(), "instances": instances}
    return ControllerFacts(url, **(defaults | facts))


def cluster(*controllers: ControllerFacts, wanted: str | None = None, **facts: Any) -> Facts:
    models = frozenset(instance.model_name for one in controllers for instance in one.instances)
    defaults: dict[str, Any] = {"models": models}
    return Facts(ModelFilter.parse(wanted, None), controllers, **(defaults | facts))


def of(*instances: KnownInstance, **facts: Any) -> Facts:
    return cluster(controller(*instances), **facts)


def probed(outcome: ProbeOutcome, *instances: KnownInstance) -> Facts:
    probes = {Endpoint(instance.host, instance.port): Probe(outcome, f"seen as {outcome}") for instance in instances}
    return of(*instances, probes=probes)


def ping(instance: KnownInstance, result: PingResult = PingResult.OK, *, connect: float | None = 0.001) -> Ping:
    return Ping(instance.key, result, "" if result is PingResult.OK else f"said {result}", connect)


def pinged(*pairs: tuple[KnownInstance, PingResult | None], **facts: Any) -> Facts:
    """Instances with the results of their pings; one with None was not pinged."""
    pings = {instance.key: ping(instance, result) for instance, result in pairs if result is not None}
    return of(*(instance for instance, _ in pairs), pings=pings, **facts)
