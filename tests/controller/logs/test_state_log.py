"""The log of instances: a line per change of state, made of the registry's events."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.controller.logs import state_log
from dbgpt_ctl.controller.logs.formats import create_formatter
from dbgpt_ctl.controller.logs.state_log import (
    FORWARDED,
    MAX_LINES,
    REFUSED,
    ChangeKind,
    LineLimit,
    StateLog,
    described,
)
from dbgpt_ctl.domain.events import ABSENT, DRAIN_ENDED, EXPIRED, HOUSEKEEPING, Actor, ActorKind, Cause, Change
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable, VerbNotSupported
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.controller.conftest import TIMEOUT
from tests.support.clock import START, ManualClock
from tests.support.server import running_controller

if TYPE_CHECKING:
    from dbgpt_ctl.domain.events import EventPage
    from dbgpt_ctl.registry.contract import RegistryInfo

KEY = InstanceKey("qwen@llm", "10.0.0.4", 8001)
GOOD: dict[str, Any] = KEY._asdict()
WORKER = Actor(ActorKind.WORKER, "10.0.0.4")
OPERATOR = Actor(ActorKind.OPERATOR, "10.0.0.9")
ANNA = OPERATOR._replace(name="anna")


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "dbgpt_ctl.instances"]


def wait_for_log(caplog: pytest.LogCaptureFixture, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in caplog.text:
        assert time.monotonic() < deadline, f"it was never logged: {text}"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("old", "new", "cause", "line"),
    [
        (ABSENT, "healthy", Cause("register", WORKER), "registered by 10.0.0.4"),
        ("deregistered", "healthy", Cause("register", WORKER), "registered by 10.0.0.4"),
        (ABSENT, "healthy", Cause("heartbeat", WORKER), "is healthy: new, by a heartbeat from 10.0.0.4"),
        ("unhealthy", "healthy", Cause("heartbeat", WORKER), "is healthy (was unhealthy)"),
        ("healthy", "deregistered", Cause("deregister", WORKER), "deregistered by 10.0.0.4"),
        ("healthy", ABSENT, Cause("deregister", OPERATOR), "removed by 10.0.0.9"),
        ("healthy", "healthy", Cause("drain", OPERATOR, "new drivers"), "drained by 10.0.0.9: new drivers"),
        ("unhealthy", "unhealthy", Cause("drain", OPERATOR), "drained by 10.0.0.9"),
        ("unhealthy", "unhealthy", Cause("drain", ANNA, "disk"), "drained by anna (10.0.0.9): disk"),
        (ABSENT, "healthy", Cause("register", WORKER._replace(name="gpu")), "registered by gpu (10.0.0.4)"),
        (ABSENT, "healthy", Cause("register", Actor(ActorKind.WORKER, name="gpu")), "registered by gpu"),
        ("unhealthy", "unhealthy", Cause("undrain", OPERATOR), "undrained by 10.0.0.9, it is unhealthy"),
        ("healthy", "healthy", DRAIN_ENDED, "is not drained any more: the time of the drain is over, it is healthy"),
        ("unhealthy", ABSENT, Cause("prune", OPERATOR), "pruned by 10.0.0.9"),
        ("unhealthy", ABSENT, Cause("prune", HOUSEKEEPING), "pruned by housekeeping"),
        (
            "healthy",
            "unhealthy",
            EXPIRED,
            "is unhealthy since 2026-01-02T03:04:05+00:00: its last heartbeat is too old",
        ),
        ("healthy", "unhealthy", Cause("a later verb", OPERATOR), "is unhealthy (was healthy)"),
    ],
)
def test_a_line_names_the_change_and_its_caller(old: str, new: str, cause: Cause, line: str) -> None:
    assert described(Change(START, KEY, old, new, cause)) == line


def test_a_register_says_whether_it_is_drained() -> None:
    for reason, says in ((None, "it is drained"), ("new disk", "it is drained: new disk")):
        change = Change(START, KEY, ABSENT, "healthy", Cause("register", OPERATOR, reason), drained=True)
        assert described(change) == f"registered by 10.0.0.9; {says}"


def test_the_expiry_of_a_drained_instance_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    states = StateLog()
    for drained in (True, False):
        states._log_change(Change(START, KEY, "healthy", "unhealthy", EXPIRED, drained=drained))
    assert [(record.levelname, record.getMessage().endswith("; it is drained")) for record in caplog.records] == [
        ("INFO", True),
        ("WARNING", False),
    ]


@pytest.mark.parametrize(
    ("change", "phrase", "level"),
    [
        ((ABSENT, "healthy", Cause("register", WORKER)), "registered", "INFO"),
        ((ABSENT, "healthy", Cause("register", OPERATOR)), "registered by 10.0.0.9", "INFO"),
        ((ABSENT, "healthy", Cause("heartbeat", WORKER)), "new, by heartbeats", "INFO"),
        (("unhealthy", "healthy", Cause("heartbeat", WORKER)), "healthy again", "INFO"),
        (("healthy", "deregistered", Cause("deregister", OPERATOR)), "deregistered by 10.0.0.9", "INFO"),
        (("healthy", ABSENT, Cause("deregister", OPERATOR)), "removed by 10.0.0.9", "INFO"),
        (("healthy", "healthy", Cause("drain", OPERATOR, "new drivers")), "drained by 10.0.0.9", "INFO"),
        (("healthy", "healthy", Cause("undrain", OPERATOR)), "undrained by 10.0.0.9", "INFO"),
        (("healthy", "healthy", DRAIN_ENDED), "no longer drained: the time of the drain is over", "INFO"),
        (("unhealthy", ABSENT, Cause("prune", HOUSEKEEPING)), "pruned", "INFO"),
        (("healthy", "unhealthy", EXPIRED), "expired", "WARNING"),
        (("healthy", "unhealthy", Cause("a later verb", WORKER)), "unhealthy (were healthy)", "INFO"),
    ],
)
def test_many_changes_of_one_kind_are_a_few_lines_and_a_count(
    change: tuple[str, str, Cause], phrase: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    states = StateLog()
    models = ["qwen3@llm"] * 3000 + ["glm@llm"] * 2000
    for port, model in enumerate(models, 1):
        states._log_change(Change(START, InstanceKey(model, "10.0.0.4", port), *change))
    text = f"4,990 more instances {phrase}: qwen3@llm 2,990, glm@llm 2,000; ctl events lists all"
    assert [(line.kind.level, line.text, line.instances) for line in states._limit.renew()] == [
        (getattr(logging, level), text, 4990)
    ]
    assert len(logged(caplog)) == 10


def test_a_count_names_the_models_with_most_instances() -> None:
    limit = LineLimit()
    for number in range(MAX_LINES):
        assert limit.admits(REFUSED, f"m{number}@llm")
    assert not limit.admits(REFUSED, "m@llm")
    assert limit.admits(ChangeKind("expired", logging.WARNING), "m@llm"), "another kind has its own lines"
    refused = "deregistered, still beating: their beats are refused until they register"
    ((kind, text, count),) = limit.renew()
    assert (kind, count) == (REFUSED, 1)
    assert text == f"1 more instance {refused}: m@llm 1; ctl models list --state deregistered lists all"
    for number in range(10, 20):
        for _ in range(number):
            limit.admits(REFUSED, f"m{number}@llm")
    ((_, line, _),) = limit.renew()
    assert ": m19@llm 19, m18@llm 18, m17@llm 17, m16@llm 16, m15@llm 15 and 4 more models; " in line
    assert limit.renew() == []


def test_a_mass_expiry_and_the_refusals_after_a_mass_deregister_are_a_few_lines(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry, states = registry_with(clock, 0), StateLog()

    async def night() -> None:
        await states.follow(registry)
        keys = [KEY._replace(port=port) for port in range(1, 5001)]
        for key in keys:
            await registry.register(Registration(key), actor=WORKER)
        await registry.drain(keys[0], actor=OPERATOR)
        await states.follow(registry)
        clock.advance(61)
        await registry.announce()
        await states.follow(registry)
        for key in keys:
            await registry.deregister(key, actor=OPERATOR)
            states.refused(key, "10.0.0.4")
        await states.follow(registry)
        await states.follow(registry)

    asyncio.run(night())
    lines = logged(caplog)
    assert [line for line in lines if " more instance" in line] == [
        "4,990 more instances registered: qwen@llm 4,990; ctl events lists all",
        "4,989 more instances expired: qwen@llm 4,989; ctl events lists all",
        (
            "4,990 more instances deregistered, still beating: their beats are refused until they register: "
            "qwen@llm 4,990; ctl models list --state deregistered lists all"
        ),
        "4,990 more instances deregistered by 10.0.0.9: qwen@llm 4,990; ctl events lists all",
    ]
    assert len(lines) == 4 * 10 + 4 + len(["drained", "expired while drained"])
    counted = [record.__dict__ for record in caplog.records if "count" in record.__dict__]
    assert [(fields["event"], fields["count"]) for fields in counted] == [
        ("instance.registered", 4990),
        ("instance.expired", 4989),
        ("instance.heartbeat_refused", 4990),
        ("instance.deregistered", 4990),
    ]


def test_each_change_of_state_is_logged_once_and_no_heartbeat(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    with (
        running_controller(registry, heartbeat_timeout_secs=1) as url,
        httpx.Client(base_url=url, trust_env=False) as http,
    ):
        http.post("/api/controller/models", json=GOOD)
        for _ in range(3):
            http.post("/api/controller/heartbeat", json=GOOD)
        clock.advance(61)
        registry.tick()
        wait_for_log(caplog, "is unhealthy")
        http.post("/api/controller/heartbeat", json=GOOD)
        wait_for_log(caplog, "is healthy (was unhealthy)")
        http.delete("/api/controller/models", params=GOOD)
        wait_for_log(caplog, "deregistered by")
        for _ in range(3):
            assert http.post("/api/controller/heartbeat", json=GOOD).content == b"false"
        http.post("/api/controller/models", json=GOOD)
        http.post("/api/v1/drain", json=GOOD | {"reason": "new drivers"})
        http.post("/api/v1/undrain", json=GOOD)
        http.delete("/api/controller/models", params={**GOOD, "remove_from_registry": "true"})
    assert logged(caplog) == [
        "qwen@llm/10.0.0.4:8001 registered by 127.0.0.1",
        "qwen@llm/10.0.0.4:8001 is unhealthy since 2026-01-02T03:05:05+00:00: its last heartbeat is too old",
        "qwen@llm/10.0.0.4:8001 is healthy (was unhealthy)",
        "qwen@llm/10.0.0.4:8001 deregistered by 127.0.0.1",
        (
            "qwen@llm/10.0.0.4:8001 is deregistered, still beating (from 127.0.0.1): "
            "its beats are refused until it registers"
        ),
        "qwen@llm/10.0.0.4:8001 registered by 127.0.0.1",
        "qwen@llm/10.0.0.4:8001 drained by 127.0.0.1: new drivers",
        "qwen@llm/10.0.0.4:8001 undrained by 127.0.0.1, it is healthy",
        "qwen@llm/10.0.0.4:8001 removed by 127.0.0.1",
    ]


def test_a_text_of_a_controller_behind_is_on_one_line(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    registry, states = registry_with(clock, 0), StateLog()
    stranger = ANNA._replace(name="anna\n2026 INFO forged\x1b[2J")

    async def forged() -> None:
        await states.follow(registry)
        for port in range(1, 13):
            await registry.register(Registration(KEY._replace(port=port)), actor=stranger)
        await states.follow(registry)

    asyncio.run(forged())
    lines = logged(caplog)
    assert lines[0] == r"qwen@llm/10.0.0.4:1 registered by anna\n2026 INFO forged\x1b[2J (10.0.0.9)"
    assert lines[-1].startswith(r"2 more instances registered by anna\n2026 INFO forged\x1b[2J (10.0.0.9): ")
    assert all(line.isprintable() for line in lines)


class Forwarding(EmbeddedModelRegistry):
    def describe(self) -> RegistryInfo:
        return replace(super().describe(), kind="remote")


def test_a_controller_that_forwards_says_whose_address_a_caller_has(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry, states = Forwarding(clock=clock, heartbeat_timeout=TIMEOUT), StateLog()
    for _ in range(2):
        asyncio.run(states.follow(registry))
    assert logged(caplog) == [FORWARDED]


class FaultyOnce(EmbeddedModelRegistry):
    faults = 1

    async def events(self, **kwargs: Any) -> EventPage:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("boom")
        return await super().events(**kwargs)


def test_the_state_log_outlives_an_unexpected_error(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    registry = FaultyOnce(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(registry, heartbeat_timeout_secs=1) as url:
        httpx.post(url + "/api/controller/heartbeat", json=GOOD, trust_env=False)
        wait_for_log(caplog, "1 instance is known")
    assert "boom" in caplog.text


def registry_with(clock: ManualClock, count: int, registry_type: Any = EmbeddedModelRegistry) -> Any:
    registry = registry_type(clock=clock, heartbeat_timeout=TIMEOUT)
    for port in range(1, count + 1):
        asyncio.run(registry.register(Registration(KEY._replace(port=port)), actor=WORKER))
    return registry


def test_what_is_known_at_the_start_is_counted_once(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    registry, states = registry_with(clock, 3), StateLog()
    asyncio.run(states.follow(registry))
    assert logged(caplog) == []
    asyncio.run(states.follow(registry))
    asyncio.run(states.follow(registry))
    assert logged(caplog) == ["3 instances are known"]
    asyncio.run(registry.deregister(KEY._replace(port=1), actor=WORKER))
    asyncio.run(states.follow(registry))
    assert logged(caplog)[1:] == ["qwen@llm/10.0.0.4:1 deregistered by 10.0.0.4"]


def test_another_numbering_is_followed_from_its_end(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    states = StateLog()
    asyncio.run(states.follow(registry_with(clock, 0)))
    other = registry_with(clock, 2)
    asyncio.run(states.follow(other))
    asyncio.run(states.follow(other))
    asyncio.run(other.register(Registration(KEY), actor=WORKER))
    asyncio.run(states.follow(other))
    assert logged(caplog) == ["2 instances are known", f"{KEY} registered by 10.0.0.4"]


def test_more_than_a_page_is_logged_at_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_log, "PAGE", 2)
    registry, states = registry_with(clock, 0), StateLog()
    asyncio.run(states.follow(registry))
    for port in range(1, 6):
        asyncio.run(registry.register(Registration(KEY._replace(port=port)), actor=WORKER))
    asyncio.run(states.follow(registry))
    assert [line.split()[0] for line in logged(caplog)] == [f"qwen@llm/10.0.0.4:{port}" for port in range(1, 6)]


class Forgetful(EmbeddedModelRegistry):
    async def events(self, **kwargs: Any) -> EventPage:
        return replace(await super().events(**kwargs), missed="after" in kwargs)


def test_changes_without_events_are_reported_as_missing(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    registry, states = registry_with(clock, 1, Forgetful), StateLog()
    asyncio.run(states.follow(registry))
    asyncio.run(registry.register(Registration(KEY), actor=WORKER))
    asyncio.run(states.follow(registry))
    assert "missing here" in logged(caplog)[1]
    assert logged(caplog)[2:] == [f"{KEY} registered by 10.0.0.4"]


class WithoutEvents(EmbeddedModelRegistry):
    calls = 0

    async def events(self, **_kwargs: Any) -> EventPage:
        self.calls += 1
        raise VerbNotSupported("it is DB-GPT's own controller")


def test_a_registry_without_events_is_one_line(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    registry, states = WithoutEvents(clock=clock, heartbeat_timeout=TIMEOUT), StateLog()
    for _ in range(3):
        asyncio.run(states.follow(registry))
    assert logged(caplog) == ["the registry has no events: changes of state are not logged"]
    assert registry.calls == 1


class Away(EmbeddedModelRegistry):
    away = False

    async def events(self, **kwargs: Any) -> EventPage:
        if self.away:
            raise RegistryUnavailable("db1:3306 does not answer")
        return await super().events(**kwargs)


def test_nothing_is_lost_while_the_registry_is_away(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    registry, states = registry_with(clock, 0, Away), StateLog()
    asyncio.run(states.follow(registry))
    asyncio.run(registry.register(Registration(KEY), actor=WORKER))
    registry.away = True
    with pytest.raises(RegistryUnavailable):
        asyncio.run(states.follow(registry))
    registry.away = False
    asyncio.run(states.follow(registry))
    assert logged(caplog) == [f"{KEY} registered by 10.0.0.4"]


def test_refused_heartbeats_are_a_warning_until_the_instance_registers(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, states = registry_with(clock, 0), StateLog()
    asyncio.run(states.follow(registry))
    warning = f"{KEY} is deregistered, still beating (from 10.0.0.4): its beats are refused until it registers"
    asyncio.run(registry.register(Registration(KEY), actor=WORKER))
    asyncio.run(states.follow(registry))
    asyncio.run(registry.deregister(KEY, actor=WORKER))
    states.refused(KEY, "10.0.0.4")
    asyncio.run(states.follow(registry))
    states.refused(KEY, "10.0.0.4")
    assert logged(caplog).count(warning) == 1
    asyncio.run(registry.register(Registration(KEY), actor=WORKER))
    asyncio.run(states.follow(registry))
    states.refused(KEY, "10.0.0.4")
    assert logged(caplog).count(warning) == 2
    monkeypatch.setattr(state_log, "MAX_REFUSED", 2)
    for port in range(1, 10):
        states.refused(KEY._replace(port=port), "10.0.0.4")
    assert len(states._refused) <= 2


@pytest.mark.parametrize(
    ("old", "new", "cause", "event"),
    [
        (ABSENT, "healthy", Cause("register", WORKER), "instance.registered"),
        (ABSENT, "healthy", Cause("heartbeat", WORKER), "instance.registered"),
        ("unhealthy", "healthy", Cause("heartbeat", WORKER), "instance.recovered"),
        ("healthy", "unhealthy", EXPIRED, "instance.expired"),
        ("healthy", "deregistered", Cause("deregister", WORKER), "instance.deregistered"),
        ("healthy", ABSENT, Cause("deregister", OPERATOR), "instance.removed"),
        ("healthy", "healthy", Cause("drain", ANNA, "new disk"), "instance.drained"),
        ("healthy", "healthy", Cause("undrain", OPERATOR), "instance.undrained"),
        ("healthy", "healthy", DRAIN_ENDED, "instance.undrained"),
        ("unhealthy", ABSENT, Cause("prune", HOUSEKEEPING), "instance.removed"),
        ("healthy", "unhealthy", Cause("a later verb", OPERATOR), "instance.changed"),
    ],
)
def test_each_change_is_an_event_with_its_facts_in_json_and_the_same_line_in_text(
    old: str, new: str, cause: Cause, event: str, caplog: pytest.LogCaptureFixture
) -> None:
    change = Change(START, KEY, old, new, cause)
    StateLog()._log_change(change)
    (record,) = caplog.records
    found = json.loads(create_formatter("json").format(record))
    actor = cause.actor
    facts = {"actor": actor.kind, "actor_name": actor.name, "address": actor.address, "reason": cause.reason}
    facts |= {"event": event, "model_name": "qwen@llm", "instance": str(KEY)}
    assert {name: found.get(name) for name in facts} == facts
    assert found["message"] == f"{KEY} {described(change)}"
    assert create_formatter("text").format(record).endswith(f"Z {record.levelname} {KEY} {described(change)}")


@pytest.mark.parametrize("poison", ["a\nINFO b", "\x1b[2J", "\u202eb", "\U0001f600", "\ud800", "x\u2028y"])
def test_names_that_another_controller_sends_stay_on_one_line(poison: str, caplog: pytest.LogCaptureFixture) -> None:
    key = InstanceKey(f"{poison}@llm", poison, 1)
    actor = Actor(ActorKind.OPERATOR, poison, poison)
    states = StateLog()
    states._log_change(Change(START, key, "healthy", "healthy", Cause("drain", actor, poison)))
    for _ in range(MAX_LINES + 1):
        states._limit.admits(ChangeKind(poison, logging.INFO), key.model_name)
    ((_, counted, _),) = states._limit.renew()
    for line in (create_formatter(name).format(caplog.records[0]) for name in ("text", "json")):
        assert line.isprintable()
        assert line.encode()
    found = json.loads(create_formatter("json").format(caplog.records[0]))
    kept = poison.replace("\ud800", "\ufffd")
    assert (found["model_name"], found["actor_name"], found["reason"]) == (f"{kept}@llm", kept, kept)
    assert poison in counted
