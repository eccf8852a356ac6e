"""What a route is: declared once, it becomes a route of FastAPI and an operation of the OpenAPI document."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations of endpoints
from fastapi.responses import Response

from dbgpt_ctl.controller.api.problems import InternalError
from dbgpt_ctl.errors import (
    BodyTooLarge,
    InvalidInstance,
    RegistryError,
    RegistryUnavailable,
    RegistryUnusable,
    UnsupportedMediaType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from fastapi import FastAPI

    from dbgpt_ctl.errors import CtlError

    Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]

JSON = "application/json"
PREFIXES = ("/api", "//api")
"""A client sends the second when its configured URL ends in a slash."""
REGISTRY_ERRORS = frozenset({RegistryError, RegistryUnusable, RegistryUnavailable})


@dataclass(frozen=True)
class Route:
    """One endpoint. `path` is without a prefix. `answer`, `query` and `body` name models in `schemas`,
    `headers` a field of the model `Listed` for each header of the answer.

    `errors` are those that the endpoint or its registry raises, beside the ones that come with a query or a body.
    """

    method: str
    path: str
    endpoint: Endpoint
    answer: str
    query: str | None = None
    body: str | None = None
    headers: Mapping[str, str] | None = None
    errors: frozenset[type[CtlError]] = REGISTRY_ERRORS
    media_type: str = JSON

    @property
    def possible_errors(self) -> frozenset[type[CtlError]]:
        """Every error that this endpoint may answer with."""
        parsing = {InvalidInstance} if self.query or self.body else set()
        body = {BodyTooLarge, UnsupportedMediaType} if self.body else set()
        return self.errors | parsing | body | {InternalError}


def add_routes(app: FastAPI, routes: Iterable[Route]) -> None:
    """Adds the routes to any FastAPI application, under each of PREFIXES."""
    for prefix in PREFIXES:
        for route in routes:
            app.add_api_route(
                prefix + route.path,
                _with_own_response(route.endpoint),
                methods=[route.method],
                tags=["Operation" if route.path.startswith("/v1/") else "Model Controller"],
                response_class=Response,
                include_in_schema=prefix == PREFIXES[0],
            )


def _with_own_response(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose responses are copied: one object may answer many calls, and FastAPI and the middleware of a
    foreign application write to a response.
    """

    @wraps(endpoint, assigned=("__name__", "__doc__"))
    async def answering(request: Request) -> Response:
        response = copy(await endpoint(request))
        response.raw_headers = list(response.raw_headers)
        return response

    del answering.__wrapped__  # FastAPI takes the annotations from here, where it can evaluate them
    return answering
