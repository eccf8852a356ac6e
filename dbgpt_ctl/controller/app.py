"""`create_app`: the FastAPI application around a `Controller`; `mount`: the same inside a foreign application."""

from __future__ import annotations

from itertools import product
from time import perf_counter
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException

import dbgpt_ctl
from dbgpt_ctl.controller.api.docs_page import add_docs_page
from dbgpt_ctl.controller.assembly import Assembly
from dbgpt_ctl.controller.console.endpoint import add_console
from dbgpt_ctl.controller.http import problems
from dbgpt_ctl.controller.http.callers import RouteAccess, count_without_instance
from dbgpt_ctl.controller.http.prepared import sent_at_once
from dbgpt_ctl.controller.metrics.counters import Counters
from dbgpt_ctl.controller.metrics.declarations import CONSOLE, OTHER
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi.telemetry import TelemetryConfig
    from starlette.types import Receive, Scope, Send

    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.http.routes import Route
    from dbgpt_ctl.controller.http.source import TrustedProxies
    from dbgpt_ctl.controller.metrics.counters import OperationCounts
    from dbgpt_ctl.registry.contract import ModelRegistry
    from dbgpt_ctl.settings.schema import ControllerSettings
    from dbgpt_ctl.tracing import Tracer

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""Turns off FastAPI's own telemetry, which an environment variable turns on: it would record each request twice."""


class ControllerApp(FastAPI):
    """FastAPI with a short cut to `endpoints`: a request with exactly the method and the path of one of them goes
    around FastAPI's middleware and routing.

    The application has the same endpoints as routes, and errors become the same answers. Only FastAPI's routing and
    dependency injection are left out, which these endpoints do not use. They are three quarters of the cost of a
    heartbeat.
    """

    endpoints: Mapping[tuple[str, str], Route]
    check_site: Callable[[Scope], None]
    """Checks the host and the origin of every request, of the short cut or not, and so does `access`."""
    proxies: TrustedProxies | None
    access: Access
    operations: Mapping[tuple[str, str], OperationCounts]
    """The counts of each route, by method and path. These routes check the access themselves, and the files of the
    console are for everyone. All else needs a reader: the documents, and paths that do not exist.
    """
    other: OperationCounts
    """The counts of all else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        began = perf_counter()
        request = Request(scope, receive)
        called = (scope["method"], scope["path"])
        counts = self.operations.get(called)
        try:
            if self.proxies is not None:
                self.proxies.note_source(scope)
            self.check_site(scope)
            route = self.endpoints.get(called)
            response = None
            if route is not None:
                self.access.check(scope, route.access)
                response = await route.endpoint(request)
            elif counts is None:
                self.access.check(scope, RouteAccess.READER)
        except Exception as error:  # noqa: BLE001 - every error becomes a problem, as in the application
            count_without_instance(scope)
            response = await problems.answer(request, error)
        counts = counts or self.other
        if response is None:
            # It answers its errors itself, and raises them again.
            await super().__call__(scope, receive, counts.counting(send, began))
            return
        counts.answered(response.status_code, perf_counter() - began)
        if not sent_at_once(response, scope, send):
            await response(scope, receive, send)


def create_app(
    settings: ControllerSettings,
    registry: ModelRegistry,
    tracer: Tracer | None = None,
    counters: Counters | None = None,
) -> FastAPI:
    """The controller as an application of its own. Its lifespan opens and closes `registry` and `tracer`. `counters`
    should be what observes the registry.

    `settings.host` and `settings.allowed_hosts` decide by which hosts it may be called, so they must say where it is
    served: with the default, only by names of this machine.
    """
    app = ControllerApp(
        title="dbgpt_ctl",
        version=dbgpt_ctl.__version__,
        description="The model controller of a DB-GPT cluster.",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        telemetry=NO_TELEMETRY,
        exception_handlers=dict.fromkeys((CtlError, HTTPException, Exception), problems.answer),
    )
    counters = counters or Counters()
    parts = Assembly(settings, registry, tracer, counters, hosts=settings.host_patterns, own=True)
    app.proxies, app.access, app.check_site = parts.proxies, parts.access, parts.check_site
    parts.add_to(app)
    routes = parts.routes_by_call
    app.endpoints = {call: route for call, route in routes.items() if route.takes_short_cut}
    app.operations = {
        (called, path): counters.of_operation(route.verb)
        for (method, path), route in routes.items()
        for called in ((method, "HEAD") if method == "GET" else (method,))
    }
    if not settings.no_console:
        console = dict.fromkeys(product(("GET", "HEAD"), add_console(app)), counters.of_operation(CONSOLE))
        app.operations = {**app.operations, **console}
    app.other = counters.of_operation(OTHER)
    add_docs_page(app)
    return app


def mount(app: FastAPI, settings: ControllerSettings, registry: ModelRegistry, tracer: Tracer | None) -> None:
    """Adds the API to any application that has not started yet; `app.state.controller` is the `Controller`. The
    lifespan of the application then opens and closes the registry and the tracer too.

    A foreign Origin changes nothing there either. The hosts of the API are not restricted unless
    `settings.allowed_hosts` is set: the application decides where it is served.
    """
    hosts = ("*",) if settings.allowed_hosts is None else settings.host_patterns
    Assembly(settings, registry, tracer, Counters(), hosts=hosts, own=False).add_to(app)
