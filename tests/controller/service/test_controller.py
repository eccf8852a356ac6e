"""Opening, health and swapping of the registry that a controller holds."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.service.controller import Controller
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.contract import RegistryHealth
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_app

if TYPE_CHECKING:
    from tests.support.clock import ManualClock

GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


class LateRegistry(EmbeddedModelRegistry):
    """Its database is down until `up` is set; `unusable` makes opening hopeless."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, heartbeat_timeout=TIMEOUT)
        self.up = threading.Event()
        self.unusable = False

    async def open(self) -> None:
        if self.unusable:
            raise RegistryUnusable("access denied for user 'ctl'")
        if not self.up.is_set():
            raise RegistryUnavailable("db1:3306 does not answer")
        await super().open()

    def health(self) -> RegistryHealth:
        away = RegistryHealth(ready=False, checks=(Check("database", "db1:3306 does not answer"),))
        return super().health() if self.up.is_set() else away


def get(url: str, path: str) -> httpx.Response:
    return httpx.get(url + path, trust_env=False)


def test_health_is_503_with_the_reason_until_the_registry_opens(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = LateRegistry(clock)
    with running_app(create_app(ControllerSettings(), registry)) as url:
        reply = get(url, "/api/health")
        assert (reply.status_code, reply.json()["detail"], reply.json()["code"]) == (
            503,
            "db1:3306 does not answer",
            "registry_unavailable",
        )
        assert reply.headers["retry-after"] == "5"
        registry.up.set()
        deadline = time.monotonic() + 10
        while get(url, "/api/health").status_code != 200:
            assert time.monotonic() < deadline, "health did not recover"
    assert "waiting for the registry: db1:3306 does not answer" in caplog.text


def test_an_unusable_registry_is_logged_and_leaves_a_foreign_application_alone(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = LateRegistry(clock)
    registry.unusable = True
    with running_app(create_app(ControllerSettings(), registry)) as url:
        assert get(url, "/api/health").status_code == 503
    assert "access denied for user 'ctl'" in caplog.text


class StrangelyLate(EmbeddedModelRegistry):
    faults = 2

    async def open(self) -> None:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("boom")
        await super().open()


def test_opening_outlives_an_unexpected_error_and_logs_it_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = StrangelyLate(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_app(create_app(ControllerSettings(), registry)):
        deadline = time.monotonic() + 10
        while registry.faults:
            assert time.monotonic() < deadline, "it was not tried again"
            time.sleep(0.01)
    assert caplog.text.count("ZeroDivisionError: boom") == 1


def test_the_registry_behind_a_running_controller_is_swapped(clock: ManualClock) -> None:
    first, second = (EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT) for _ in range(2))
    app = create_app(ControllerSettings(), first)
    swapped = threading.Event()

    @app.post("/swap")
    async def swap() -> None:
        await app.state.controller.swap(second)
        swapped.set()

    with running_app(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        http.post("/api/controller/models", json=GOOD)
        assert len(http.get("/api/controller/models").json()) == 1
        http.post("/swap")
        assert swapped.is_set()
        assert http.get("/api/controller/models").json() == []
        assert http.get("/api/health").status_code == 200
        assert not first.health().ready


def test_swapping_in_a_registry_that_does_not_open_changes_nothing(clock: ManualClock) -> None:
    first = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    controller = Controller(first)
    with pytest.raises(RegistryUnavailable):
        asyncio.run(controller.swap(LateRegistry(clock)))
    assert controller.registry is first
    assert first.health().ready
