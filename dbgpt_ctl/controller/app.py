"""`create_app`: the FastAPI application around a `Controller`; `mount`: the same inside a foreign application."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException

import dbgpt_ctl
from dbgpt_ctl.controller.api import openapi, problems
from dbgpt_ctl.controller.api.cross_site import AllowedHosts, CrossSiteGuard
from dbgpt_ctl.controller.api.dbgpt import DbgptEndpoints
from dbgpt_ctl.controller.api.docs_page import add_docs_page
from dbgpt_ctl.controller.api.probes import ProbeEndpoints
from dbgpt_ctl.controller.api.routes import add_routes, after_step
from dbgpt_ctl.controller.api.source import TrustedProxies
from dbgpt_ctl.controller.api.v1 import ApiEndpoints
from dbgpt_ctl.controller.auth.access import Access, with_access
from dbgpt_ctl.controller.auth.identity import count_without_instance
from dbgpt_ctl.controller.auth.route_access import RouteAccess
from dbgpt_ctl.controller.auth.start import create_access
from dbgpt_ctl.controller.controller import Controller
from dbgpt_ctl.controller.http.prepared import sent_at_once
from dbgpt_ctl.controller.logs.audit import create_audit_log
from dbgpt_ctl.controller.logs.audited_routes import AuditedRoutes
from dbgpt_ctl.controller.metrics.counters import Counters
from dbgpt_ctl.controller.metrics.declarations import OTHER
from dbgpt_ctl.controller.metrics.endpoint import MetricsEndpoint
from dbgpt_ctl.controller.metrics.instance_counts import InstanceCounter
from dbgpt_ctl.controller.metrics.reader import MetricsReader
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Any

    from fastapi.telemetry import TelemetryConfig
    from starlette.types import Receive, Scope, Send

    from dbgpt_ctl.controller.api.routes import Route
    from dbgpt_ctl.controller.metrics.counters import OperationCounts
    from dbgpt_ctl.registry.contract import ModelRegistry
    from dbgpt_ctl.settings.schema import ControllerSettings
    from dbgpt_ctl.tracing import Tracer

POLL_SECS, EMBEDDED_POLL_SECS = 0.2, 0.05
"""How often new events are read while a client watches; in memory that costs nothing."""
REPORTED_SETTINGS = ("heartbeat_interval_secs", "heartbeat_timeout_secs", "max_instances")
"""Not of a controller that forwards: another one derives the states, by settings of its own."""
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""Turns off FastAPI's own telemetry, which an environment variable turns on: it would record each request twice."""


class ControllerApp(FastAPI):
    """FastAPI with a short cut to `endpoints`, which a cluster calls all the time: a request with exactly the method
    and the path of one of them goes around FastAPI's middleware and routing.

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
    """The counts of each route, by method and path. These routes check the access themselves. All else needs a reader:
    the documents, and paths that do not exist.
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
    app.proxies = _proxies(settings)
    app.access = create_access(settings)
    counters = counters or Counters()
    guard = CrossSiteGuard(AllowedHosts(settings.host_patterns))
    routes, app.check_site = _add_api(
        app, settings, registry, tracer, app.access, counters=counters, guard=guard, own=True
    )
    app.endpoints = {key: route for key, route in routes.items() if route.is_of_dbgpt}
    app.operations = {
        (called, path): counters.of_operation(route.verb)
        for (method, path), route in routes.items()
        for called in ((method, "HEAD") if method == "GET" else (method,))
    }
    app.other = counters.of_operation(OTHER)
    add_docs_page(app)
    return app


def mount(app: FastAPI, settings: ControllerSettings, registry: ModelRegistry, tracer: Tracer | None) -> None:
    """Adds the API to any application that has not started yet; `app.state.controller` is the `Controller`. The
    lifespan of the application then opens and closes the registry and the tracer too.

    A foreign Origin changes nothing there either. The hosts of the API are not restricted unless
    `settings.allowed_hosts` is set: the application decides where it is served.
    """
    patterns = ("*",) if settings.allowed_hosts is None else settings.host_patterns
    guard = CrossSiteGuard(AllowedHosts(patterns))
    _add_api(app, settings, registry, tracer, create_access(settings), counters=Counters(), guard=guard)


def _proxies(settings: ControllerSettings) -> TrustedProxies | None:
    return TrustedProxies(settings.trusted_proxies.split(",")) if settings.trusted_proxies else None


def _add_api(
    app: FastAPI,
    settings: ControllerSettings,
    registry: ModelRegistry,
    tracer: Tracer | None,
    access: Access,
    *,
    counters: Counters,
    guard: CrossSiteGuard,
    own: bool = False,
) -> tuple[dict[tuple[str, str], Route], Callable[[Scope], None]]:
    """Adds the routes, behind `access`, and behind `guard` unless the application is our `own`. Returns them as they
    are without both, by method and path, and the check of the guard.

    Our own application has the routes at the root too, and its requests are counted.
    """
    is_embedded = settings.registry_type == "embedded" and not settings.remote_addr
    controller = app.state.controller = Controller(
        registry,
        poll_secs=EMBEDDED_POLL_SECS if is_embedded else POLL_SECS,
        settings={name: getattr(settings, name) for name in REPORTED_SETTINGS if not settings.remote_addr},
        deny_loopback_hosts=settings.deny_loopback_hosts,
        access=access,
        counters=counters,
    )
    dbgpt_routes, v1_routes = DbgptEndpoints(controller).routes(), ApiEndpoints(controller).routes()
    if registry.forwarder_id is not None:
        from dbgpt_ctl.controller.loop_detection import with_loop_detection

        dbgpt_routes = with_loop_detection(dbgpt_routes, registry.forwarder_id)
        v1_routes = with_loop_detection(v1_routes, registry.forwarder_id)
    if tracer is not None:
        from dbgpt_ctl.controller.request_tracing import with_spans

        dbgpt_routes = with_spans(dbgpt_routes, tracer)
    plain_routes: tuple[Route, ...] = (*dbgpt_routes, *v1_routes)
    check_site: Callable[[Scope], None] = guard.check
    if (audit := create_audit_log(settings)) is not None:
        audited = AuditedRoutes(audit, plain_routes)
        plain_routes, check_site = audited.routes, audited.guarded(check_site)
        access.operator_refused, access.read_again = audited.refused, audit.tokens_read
        controller.audit_log = audit
    instances = None
    if own:
        plain_routes += ProbeEndpoints(controller).routes()
        instances = InstanceCounter(lambda: controller.registry, counters.storage)
        plain_routes += MetricsEndpoint(MetricsReader(controller, counters, instances, tracer)).routes()
    routes = with_access(plain_routes, access)
    if not own:
        routes = after_step(routes, check_site)
        if (proxies := _proxies(settings)) is not None:
            routes = after_step(routes, proxies.note_source)
    add_routes(app, routes)
    openapi.describe(app, routes)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with (
            audit.running(lambda: access.in_force) if audit else nullcontext(),
            tracer.running() if tracer else nullcontext(),
            access.running(),
            controller.running(),
            instances.running() if instances else nullcontext(),
            inner(running_app) as state,
        ):
            yield state or {}

    app.router.lifespan_context = lifespan
    return {(route.method, path): route for route in plain_routes for path in route.paths}, check_site
