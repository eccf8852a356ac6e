"""Invented facts for the tests of a diagnosis: instances, controllers and clusters at the time NOW."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dbgpt_ctl.client.instance_filter import ModelFilter
from dbgpt_ctl.client.responses import (
    AuthStatus,
    ControllerStatus,
    ExpiringToken,
    KnownInstance,
    RefusedWorker,
    TlsState,
    TokensFileStatus,
)
from dbgpt_ctl.diagnosis.facts import ControllerFacts, Endpoint, Facts, Probe, ProbeOutcome
from dbgpt_ctl.domain.controllers import ControllerRecord
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.domain.ping_results import Ping, PingResult

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


def status(**facts: Any) -> ControllerStatus:
    defaults: dict[str, Any] = {
        "controller": URL,
        "object": {},
        "version": "1",
        "time": NOW,
        "started_at": ago(86400),
        "leaving": False,
        "kind": "mysql",
        "place": "db1:3306/dbgpt",
        "durable": True,
        "ready": True,
        "reason": None,
        "heartbeat_interval_secs": 20.0,
        "heartbeat_timeout_secs": 60.0,
        "max_instances": 200_000,
        "stale_since": None,
        "held_until": None,
        "models": {},
        "watchers": 0,
        "last_event_id": 0,
    }
    return ControllerStatus(**(defaults | facts))


def auth(mode: str = "enforce", *, is_open: bool = False, **tokens_file: Any) -> AuthStatus:
    """What a controller reports of its check; with a tokens file where `tokens_file` has a fact of it."""
    defaults: dict[str, Any] = {
        "digest": "0123456789ab",
        "tokens": 3,
        "problem": None,
        "readable_by_others": None,
        "expiring": (),
    }
    file = TokensFileStatus(**(defaults | tokens_file)) if tokens_file else None
    return AuthStatus(mode, "setting", is_open, file)


def checking(mode: str = "enforce", url: str = URL, **facts: Any) -> ControllerFacts:
    """A controller that reports how it checks its callers. The other arguments are those of `auth`."""
    return controller(url=url, status=status(auth=auth(mode, **facts)))


def refusing(*workers: RefusedWorker, url: str = URL, **facts: Any) -> dict[str, Any]:
    """The URL and the status of a controller that refuses these workers; facts of its status go before."""
    return {"url": url, "status": status(auth=replace(auth(tokens=3), refused_workers=workers), **facts)}


def refused(
    source: str = "10.0.0.4", reason: str = "none", *, age: float = 3, count: int = 12, **facts: Any
) -> RefusedWorker:
    """A worker whose heartbeats were refused, the last one `age` seconds ago."""
    defaults: dict[str, Any] = {"token": None, "key": None}
    return RefusedWorker(reason, source, count=count, age=timedelta(seconds=age), **(defaults | facts))


def expiring(name: str, left: timedelta) -> dict[str, Any]:
    """A fact of a tokens file."""
    return {"expiring": (ExpiringToken(name, NOW + left),)}


def with_tls(
    url: str = URL, port: int | None = 8443, *, left_days: float = 90, problem: str | None = None
) -> ControllerFacts:
    """A controller that reports its https; None for `port`: it has none."""
    tls = None if port is None else TlsState(port, NOW + timedelta(days=left_days), problem)
    return controller(url=url, status=status(object={"tls": tls}, tls=tls))


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
