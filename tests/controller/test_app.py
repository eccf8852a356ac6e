"""The application around the endpoints."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from fastapi.responses import Response
from fastapi.routing import APIRoute

from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.controller.app import ControllerApp, create_app
from dbgpt_ctl.controller.auth.access import Access
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.cross_site import AllowedHosts, CrossSiteGuard
from dbgpt_ctl.controller.http.routes import Route
from dbgpt_ctl.controller.metrics.counters import OperationCounts
from dbgpt_ctl.errors import InvalidInstance
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_controller

if TYPE_CHECKING:
    from fastapi import Request

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


def test_dbgpts_endpoints_and_the_watch_take_the_short_cut_and_are_routes_too(clock: ManualClock) -> None:
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
            ("GET", "/v1/watch"),
        )
    }
    assert set(app.endpoints) < routes


async def endpoint(request: Request) -> Response:
    if request.url.query:
        raise InvalidInstance("port", "port is missing")
    return Response(b"from the endpoint")


async def application(scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": scope["type"], "body": b"from the application"})


def dispatched(
    method: str,
    path: str,
    *,
    kind: str = "http",
    query: bytes = b"",
    application: Any = application,
    sent: list[Any] | None = None,
) -> list[Any]:
    sent = [] if sent is None else sent

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": kind, "method": method, "path": path, "query_string": query, "headers": [], "scheme": "http"}
    app = ControllerApp()
    route = Route("POST", "/beat", endpoint, RouteAccess.WORKER, "Stored")
    app.endpoints, app.middleware_stack = {("POST", "/api/beat"): route}, application
    app.check_site, app.access = CrossSiteGuard(AllowedHosts(["*"])).check, Access(None, Mode.OFF, timeout_secs=60)
    app.proxies, app.operations, app.other = None, {}, OperationCounts()
    asyncio.run(app(scope, receive, send))
    return sent


def test_an_exact_method_and_path_is_the_endpoints() -> None:
    assert dispatched("POST", "/api/beat")[1]["body"] == b"from the endpoint"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/api/beat", "http"),
        ("POST", "/api/beat/", "http"),
        ("POST", "/API/beat", "http"),
        ("POST", "/api/beat", "websocket"),
    ],
)
def test_everything_else_is_the_applications(method: str, path: str, kind: str) -> None:
    assert dispatched(method, path, kind=kind) == [{"type": kind, "body": b"from the application"}]


def test_an_error_of_the_application_is_answered_once() -> None:
    async def failing(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500})
        raise ZeroDivisionError  # as Starlette's ServerErrorMiddleware does after its answer

    sent: list[Any] = []
    with pytest.raises(ZeroDivisionError):
        dispatched("GET", "/api/v1/status", application=failing, sent=sent)
    assert len(sent) == 1


def test_an_error_becomes_the_same_problem_as_in_the_application() -> None:
    start, body = dispatched("POST", "/api/beat", query=b"x=1")
    assert start["status"] == 422
    assert orjson.loads(body["body"])["field"] == "port"
