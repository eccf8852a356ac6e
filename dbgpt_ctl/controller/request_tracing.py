"""Spans around the endpoints: what DB-GPT's tracer would note of each call, and how it ended."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations of endpoints
from fastapi.responses import Response  # noqa: TC002

from dbgpt_ctl import traceparent
from dbgpt_ctl.domain.fields import parse_bool
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import CtlError, UsageError
from dbgpt_ctl.tracing import span
from dbgpt_ctl.tracing.tracer import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from dbgpt_ctl.tracing import Tracer

    Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]

SENT = "dbgpt_ctl.sent"
"""Key in a request's scope: the Registration that its body holds, once it is parsed."""
CLIENT_WENT_AWAY = Failure("the request was given up", "cancelled", 499)


class Operation(NamedTuple):
    """What an endpoint does, for spans."""

    name: str
    always: bool
    """Recorded without being asked for; else by the sampling ratio."""
    describe: Callable[[Request], dict[str, Any]]


def traced(endpoints: Mapping[tuple[str, str], Endpoint], tracer: Tracer | None) -> dict[tuple[str, str], Endpoint]:
    """The same endpoints, recording; without a tracer they are the very same, so that one costs nothing."""
    if tracer is None:
        return dict(endpoints)
    return {
        route: _traced(endpoint, OPERATIONS[route], tracer) if route in OPERATIONS else endpoint
        for route, endpoint in endpoints.items()
    }


def _traced(endpoint: Endpoint, operation: Operation, tracer: Tracer) -> Endpoint:
    @wraps(endpoint)
    async def recording(request: Request) -> Response:
        parent = traceparent.incoming(request.scope["headers"])
        if not tracer.records(parent, always=operation.always):
            return await endpoint(request)
        root, inner = tracer.start(parent, operation.name, request.scope["path"])
        token = traceparent.CURRENT.set(inner.context)
        failure: Failure | None = CLIENT_WENT_AWAY
        try:
            response = await endpoint(request)
            failure = None
        except Exception as error:
            failure = _failure(error)
            raise
        finally:
            traceparent.CURRENT.reset(token)
            tracer.end(root, inner, operation.describe(request), failure)
        return response

    return recording


def _failure(error: Exception) -> Failure:
    """What was not raised on purpose may tell anything: its text is in the log only."""
    if isinstance(error, CtlError):
        return Failure(str(error), error.code, error.http_status)
    return Failure(type(error).__name__, "internal_error", 500)


def _of_body(request: Request) -> dict[str, Any]:
    sent = request.scope.get(SENT)
    return {} if sent is None else instance_object(sent)


def _of_query(request: Request) -> dict[str, Any]:
    query = request.query_params
    try:
        remove = parse_bool("remove_from_registry", query.get("remove_from_registry"), default=False)
        return instance_object(Registration(InstanceKey.parse(query)), remove=remove)
    except UsageError:
        return {}


def _of_list(request: Request) -> dict[str, Any]:
    query = request.query_params
    return {name: query[name] for name in ("model_name", "healthy_only") if name in query}


def instance_object(sent: Registration, *, remove: bool = False) -> dict[str, Any]:
    """The ten keys of an instance in DB-GPT's traces; the worker's `healthy` and `last_heartbeat` do not count."""
    return {
        "model_name": sent.key.model_name,
        "host": sent.key.host,
        "port": sent.key.port,
        "weight": sent.weight,
        "check_healthy": sent.check_healthy,
        "healthy": False,
        "enabled": sent.enabled,
        "prompt_template": sent.prompt_template,
        "last_heartbeat": None,
        "remove_from_registry": remove,
    }


OPERATIONS = {
    ("POST", "/controller/models"): Operation(span.REGISTER, always=True, describe=_of_body),
    ("DELETE", "/controller/models"): Operation(span.DEREGISTER, always=True, describe=_of_query),
    ("POST", "/controller/heartbeat"): Operation(span.HEARTBEAT, always=False, describe=_of_body),
    ("GET", "/controller/models"): Operation(span.LIST, always=False, describe=_of_list),
}
"""By method and path, without the prefix. Health is not there: it is asked for every few seconds by every client."""
