"""The parts of one controller, put together from its settings: the check of requests, the routes and what is around
them, and the tasks that run as long as it serves.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.api import openapi
from dbgpt_ctl.controller.api.commands import CommandsEndpoint
from dbgpt_ctl.controller.api.dbgpt import DbgptEndpoints
from dbgpt_ctl.controller.api.diagnosis import DiagnosisEndpoint
from dbgpt_ctl.controller.api.metrics import MetricsEndpoint
from dbgpt_ctl.controller.api.metrics_reader import MetricsReader
from dbgpt_ctl.controller.api.parameters import with_known_parameters
from dbgpt_ctl.controller.api.probes import ProbeEndpoints
from dbgpt_ctl.controller.api.status import SettingsEndpoint
from dbgpt_ctl.controller.api.v1 import ApiEndpoints
from dbgpt_ctl.controller.audit.audit_log import create_audit_log
from dbgpt_ctl.controller.audit.audited_routes import AuditedRoutes
from dbgpt_ctl.controller.auth.access import with_access
from dbgpt_ctl.controller.auth.page_rights import check_page as check_page_of
from dbgpt_ctl.controller.auth.session_endpoints import SessionEndpoints
from dbgpt_ctl.controller.auth.start import create_access
from dbgpt_ctl.controller.http.cross_site import AllowedHosts, CrossSiteGuard
from dbgpt_ctl.controller.http.routes import add_routes, with_precheck
from dbgpt_ctl.controller.http.source import TrustedProxies
from dbgpt_ctl.controller.metrics.instance_counts import InstanceCounter
from dbgpt_ctl.controller.service.controller import Controller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from fastapi import FastAPI
    from starlette.types import Scope

    from dbgpt_ctl.controller.http.routes import Route
    from dbgpt_ctl.controller.metrics.counters import Counters
    from dbgpt_ctl.registry.contract import ModelRegistry
    from dbgpt_ctl.settings.schema import ControllerSettings
    from dbgpt_ctl.tracing import Tracer

POLL_SECS, EMBEDDED_POLL_SECS = 0.2, 0.05
"""How often new events are read while a client watches; in memory that costs nothing."""
REPORTED_SETTINGS = ("heartbeat_interval_secs", "heartbeat_timeout_secs", "max_instances")
"""Not of a controller that forwards: another one derives the states, by settings of its own."""


class Assembly:
    """One controller with all its parts.

    `hosts`: by which hosts it may be called. `own`: whether it serves in an application of our own, which has the
    routes at the root and the session of the console too, counts its requests, and checks the host, the origin and the
    source of each request itself.
    """

    def __init__(
        self,
        settings: ControllerSettings,
        registry: ModelRegistry,
        tracer: Tracer | None,
        counters: Counters,
        *,
        hosts: Iterable[str],
        own: bool,
    ) -> None:
        self._own = own
        self._tracer = tracer
        self.access = create_access(settings)
        self.proxies = TrustedProxies(settings.trusted_proxies.split(",")) if settings.trusted_proxies else None
        check_page = partial(check_page_of, self.access) if own else lambda _: None
        self.check_site: Callable[[Scope], None] = CrossSiteGuard(AllowedHosts(hosts), check_page).check
        """Checks the host and the origin of a request."""
        is_embedded = settings.registry_type == "embedded" and not settings.remote_addr
        self.controller = Controller(
            registry,
            poll_secs=EMBEDDED_POLL_SECS if is_embedded else POLL_SECS,
            settings={name: getattr(settings, name) for name in REPORTED_SETTINGS if not settings.remote_addr},
            deny_loopback_hosts=settings.deny_loopback_hosts,
            access=self.access,
            counters=counters,
        )
        self._instances = InstanceCounter(lambda: self.controller.registry, counters.storage) if own else None
        self._audit = create_audit_log(settings)
        self.routes = self._audited(self._routes_of_api(settings, registry))
        """Those that are served, without the checks around them."""
        if self._instances is not None:
            reader = MetricsReader(self.controller, counters, self._instances, tracer)
            self.routes += (
                *ProbeEndpoints(self.controller).routes(),
                *MetricsEndpoint(reader, self.controller.large_lists).routes(),
            )
            if not settings.no_console:
                self.routes += SessionEndpoints(self.access).routes()

    @property
    def routes_by_call(self) -> dict[tuple[str, str], Route]:
        """The routes by method and path, for a dispatcher that checks the access itself."""
        return {(route.method, path): route for route in with_known_parameters(self.routes) for path in route.paths}

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes, behind their checks, and lets the lifespan of `app` open and close all parts."""
        routes = with_access(with_known_parameters(self.routes), self.access)
        if not self._own:
            routes = tuple(with_precheck(route, self.check_site) for route in routes)
            if self.proxies is not None:
                routes = tuple(with_precheck(route, self.proxies.note_source) for route in routes)
        add_routes(app, routes)
        openapi.describe(app, routes)
        app.state.controller = self.controller
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(running_app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
            async with self._running(), inner(running_app) as state:
                yield state or {}

        app.router.lifespan_context = lifespan

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as parts:
            if self._audit is not None:
                await parts.enter_async_context(self._audit.running(lambda: self.access.in_force))
            if self._tracer is not None:
                await parts.enter_async_context(self._tracer.running())
            await parts.enter_async_context(self.access.running())
            await parts.enter_async_context(self.controller.running())
            if self._instances is not None:
                await parts.enter_async_context(self._instances.running())
            yield

    def _routes_of_api(self, settings: ControllerSettings, registry: ModelRegistry) -> tuple[Route, ...]:
        dbgpt_routes = DbgptEndpoints(self.controller).routes()
        v1_routes = (
            *ApiEndpoints(self.controller).routes(),
            *DiagnosisEndpoint(self.controller).routes(),
            *SettingsEndpoint(settings).routes(),
            *CommandsEndpoint(self.controller).routes(),
        )
        if registry.forwarder_id is not None:
            from dbgpt_ctl.controller.forwarding_loop import with_loop_detection

            dbgpt_routes = with_loop_detection(dbgpt_routes, registry.forwarder_id)
            v1_routes = with_loop_detection(v1_routes, registry.forwarder_id)
        if self._tracer is not None:
            from dbgpt_ctl.controller.request_tracing import with_spans

            dbgpt_routes = with_spans(dbgpt_routes, self._tracer)
        return (*dbgpt_routes, *v1_routes)

    def _audited(self, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """The routes, which write to the audit log if there is one. So do refusals of the access and of the site."""
        if self._audit is None:
            return routes
        audited = AuditedRoutes(self._audit, routes)
        self.check_site = audited.guarded(self.check_site)
        self.access.check_own_page = audited.guarded(self.access.check_own_page)
        self.access.operator_refused, self.access.read_again = audited.refused, self._audit.tokens_read
        self.controller.audit_log = self._audit
        return audited.routes
