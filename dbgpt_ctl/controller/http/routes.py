"""What a route is: declared once, it becomes a route of FastAPI and an operation of the OpenAPI document."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations of endpoints
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.problems import InternalError
from dbgpt_ctl.errors import (
    BodyTooLarge,
    ForeignOrigin,
    ForwardsToItself,
    HostNotAllowed,
    InvalidInstance,
    NotAuthenticated,
    NotPermitted,
    ReadOnlyPage,
    RegistryError,
    RegistryUnavailable,
    RegistryUnusable,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from dbgpt_ctl.errors import CtlError

    Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


JSON = "application/json"
EVENT_STREAM = "text/event-stream"
PREFIXES = ("/api", "//api")
"""A client sends the second when its configured URL ends in a slash."""
AT_ROOT = ("",)
"""The prefix of what platforms ask for: health and metrics."""
REGISTRY_ERRORS = frozenset({RegistryError, RegistryUnusable, RegistryUnavailable, ForwardsToItself})


@dataclass(frozen=True)
class Route:
    """One endpoint. `path` is without a prefix; the route is served under each of `prefixes`. `answer`, `query` and
    `body` are types of `wire`, `headers` names a field of `Listed` for each header of the answer.

    `access` says which roles may use it. `errors` are those that the endpoint or its registry raises, beside the ones
    that come with a query or a body. `answer` comes with each of `statuses`. `refuses_query`: a query can be wrong.
    """

    method: str
    path: str
    endpoint: Endpoint
    access: RouteAccess
    answer: Any
    query: Any = None
    body: Any = None
    headers: Mapping[str, str] | None = None
    errors: frozenset[type[CtlError]] = REGISTRY_ERRORS
    media_type: str = JSON
    prefixes: tuple[str, ...] = PREFIXES
    statuses: tuple[int, ...] = (200,)
    refuses_query: bool = True

    @property
    def paths(self) -> tuple[str, ...]:
        """The whole paths under which it is served; the first one is the documented one."""
        return tuple(prefix + self.path for prefix in self.prefixes)

    @property
    def is_of_dbgpt(self) -> bool:
        """Whether clients of DB-GPT know it."""
        return self.prefixes is PREFIXES and not self.is_v1

    @property
    def is_v1(self) -> bool:
        """Whether it is below /api/v1."""
        return self.path.startswith("/v1/")

    @property
    def takes_short_cut(self) -> bool:
        """Whether its requests go around FastAPI: a cluster sends them all the time, or they stay open, and FastAPI's
        objects would stay too, 11 kB for each.
        """
        return self.is_of_dbgpt or self.media_type == EVENT_STREAM

    @property
    def verb(self) -> str:
        """The verb of the registry that it stands for, as metrics name it, or what it shows."""
        return self.endpoint.__name__

    @property
    def possible_errors(self) -> frozenset[type[CtlError]]:
        """Every error that this endpoint may answer with."""
        parsing = {InvalidInstance} if self.is_v1 or (self.query and self.refuses_query) or self.body else set()
        body = {BodyTooLarge, UnsupportedMediaType} if self.body else set()
        foreign = {ForeignOrigin, ReadOnlyPage} if self.method != "GET" else set()
        refused = {NotAuthenticated, NotPermitted} if self.access is not RouteAccess.EVERYONE else set()
        return self.errors | parsing | body | foreign | refused | {HostNotAllowed, InternalError}


def with_precheck(route: Route, step: Callable[[Scope], object]) -> Route:
    """The same route, whose endpoint first passes the scope of the request to `step`, which may raise."""

    @wraps(route.endpoint)
    async def stepping(request: Request) -> Response:
        step(request.scope)
        return await route.endpoint(request)

    return replace(route, endpoint=stepping)


def add_routes(app: FastAPI, routes: Iterable[Route]) -> None:
    """Adds the routes to any FastAPI application, under each of their paths. Where GET works, HEAD does too."""
    by_path: dict[str, list[Route]] = {}
    for route in routes:
        for path in route.paths:
            by_path.setdefault(path, []).append(route)
    for path, of_path in by_path.items():
        allowed: list[str] = []
        for route in of_path:
            endpoint = _with_own_response(route.endpoint)
            app.add_api_route(
                path,
                endpoint,
                methods=[route.method],
                tags=["Model Controller" if route.is_of_dbgpt else "Operation"],
                response_class=Response,
                include_in_schema=path == route.paths[0],
            )
            allowed.append(route.method)
            if route.method == "GET":
                app.add_api_route(path, endpoint, methods=["HEAD"], response_class=Response, include_in_schema=False)
                allowed.append("HEAD")
        app.add_route(path, _OtherMethods(allowed), include_in_schema=False)  # type: ignore[arg-type]


class _OtherMethods:
    """The answer to all methods that a path does not have. Starlette's own names the methods of one route only."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._headers = {"Allow": ", ".join(sorted(allowed))}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI calls it
        raise HTTPException(405, headers=self._headers)


def _with_own_response(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose responses are copied: one object may answer many calls, and FastAPI and the middleware of a
    foreign application write to a response. The answer to HEAD has the headers of GET and no body.
    """

    @wraps(endpoint, assigned=("__name__", "__doc__"))
    async def answering(request: Request) -> Response:
        response = copy(await endpoint(request))
        response.raw_headers = list(response.raw_headers)
        if request.method == "HEAD":
            response.body = b""
        return response

    del answering.__wrapped__  # FastAPI takes the annotations from here, where it can evaluate them
    return answering
