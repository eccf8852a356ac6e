"""The application around the endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from fastapi.routing import APIRoute

from dbgpt_ctl.controller.app import ControllerApp, create_app
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_controller

if TYPE_CHECKING:
    import pytest

    from dbgpt_ctl.registry.contract import Listing
    from tests.support.clock import ManualClock


class BrokenRegistry(EmbeddedModelRegistry):
    async def list(self, *_args: Any, **_kwargs: Any) -> Listing:
        raise ZeroDivisionError("secret words")


def test_an_unexpected_error_is_a_problem_without_its_text(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with running_controller(BrokenRegistry(clock=clock, heartbeat_timeout=TIMEOUT)) as url:
        reply = httpx.get(url + "/api/controller/models", trust_env=False)
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    assert "secret words" not in reply.text
    assert "secret words" in caplog.text


def test_dbgpts_endpoints_take_the_short_cut_and_are_routes_too(clock: ManualClock) -> None:
    app = create_app(ControllerSettings(), EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT))
    assert isinstance(app, ControllerApp)
    routes = {
        (method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods or ()
    }
    assert set(app.endpoints) == {
        (method, prefix + path)
        for prefix in ("/api", "//api")
        for method, path in (
            ("GET", "/health"),
            ("POST", "/controller/heartbeat"),
            ("GET", "/controller/models"),
            ("POST", "/controller/models"),
            ("DELETE", "/controller/models"),
        )
    }
    assert set(app.endpoints) < routes
