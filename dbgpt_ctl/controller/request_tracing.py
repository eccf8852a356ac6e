"""Spans around DB-GPT's endpoints: what DB-GPT's tracer records of each call, and how the call ended.

Imported only when there is a tracer: a controller without one serves the plain endpoints.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgpt_ctl import traceparent
from dbgpt_ctl.controller.http.problems import InternalError
from dbgpt_ctl.controller.http.request import REGISTRATION
from dbgpt_ctl.controller.logs.current_request import TRACE_ID
from dbgpt_ctl.domain.fields import MAX_TEXT_CHARS, parse_bool, parse_key, sent_fields
from dbgpt_ctl.domain.instance import Registration
from dbgpt_ctl.errors import CtlError, UsageError
from dbgpt_ctl.settings.masking import mask_own_tokens
from dbgpt_ctl.tracing import span
from dbgpt_ctl.tracing.tracer import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.controller.http.routes import Endpoint, Route
    from dbgpt_ctl.tracing import Tracer

CANCELLED = Failure("the client closed the connection", "cancelled", 499)


class SpanKind(NamedTuple):
    """The span of one endpoint."""

    name: str
    always: bool
    """Recorded for every call; otherwise as the sampling ratio and the caller's traceparent decide."""
    describe: Callable[[Request], dict[str, Any]]


def with_spans(routes: Iterable[Route], tracer: Tracer) -> tuple[Route, ...]:
    """The same routes, whose endpoints record spans."""
    return tuple(
        replace(route, endpoint=_with_span(route.endpoint, SPANS[route.method, route.path], tracer))
        if (route.method, route.path) in SPANS
        else route
        for route in routes
    )


def _with_span(endpoint: Endpoint, kind: SpanKind, tracer: Tracer) -> Endpoint:
    @wraps(endpoint)
    async def recording(request: Request) -> Response:
        parent = traceparent.incoming(request.scope["headers"])
        if not tracer.records(parent, always=kind.always):
            return await endpoint(request)
        root, inner = tracer.start(parent, kind.name, request.scope["path"])
        request.scope[TRACE_ID] = inner.context.trace_id
        token = traceparent.CURRENT.set(inner.context)
        failure: Failure | None = CANCELLED
        try:
            response = await endpoint(request)
            failure = None
        except Exception as error:
            failure = _failure(error)
            raise
        finally:
            traceparent.CURRENT.reset(token)
            tracer.end(root, inner, _masked(kind.describe(request)), failure)
        return response

    return recording


def _masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: mask_own_tokens(value) if isinstance(value, str) else value for name, value in fields.items()}


def _failure(error: Exception) -> Failure:
    """The text of an unexpected error may hold secrets: it is in the log only."""
    if isinstance(error, CtlError):
        return Failure(mask_own_tokens(str(error)), error.code, error.http_status)
    return Failure(type(error).__name__, InternalError.code, InternalError.http_status)


def _of_body(request: Request) -> dict[str, Any]:
    sent = request.scope.get(REGISTRATION)
    return {} if sent is None else sent_fields(sent)


def _of_query(request: Request) -> dict[str, Any]:
    query = request.query_params
    try:
        remove = parse_bool("remove_from_registry", query.get("remove_from_registry"), default=False)
        return sent_fields(Registration(parse_key(query)), remove=remove)
    except UsageError:
        return {}


def _of_list(request: Request) -> dict[str, Any]:
    """A text of any length that no model can have is cut: many spans may wait for a sink."""
    query = request.query_params
    return {name: query[name][:MAX_TEXT_CHARS] for name in ("model_name", "healthy_only") if name in query}


SPANS = {
    ("POST", "/controller/models"): SpanKind(span.REGISTER, always=True, describe=_of_body),
    ("POST", "/v1/register"): SpanKind(span.REGISTER, always=True, describe=_of_body),
    ("DELETE", "/controller/models"): SpanKind(span.DEREGISTER, always=True, describe=_of_query),
    ("POST", "/controller/heartbeat"): SpanKind(span.HEARTBEAT, always=False, describe=_of_body),
    ("GET", "/controller/models"): SpanKind(span.LIST, always=False, describe=_of_list),
}
"""By method and path. Health has no span, because every client requests it every few seconds."""
