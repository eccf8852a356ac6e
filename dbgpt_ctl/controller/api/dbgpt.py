"""DB-GPT's API: parse, one call of the registry, reply. Facts of the wire: docs/protocol.md.

Every answer has the status 200 exactly and, for a list, exactly nine keys per instance: stock clients take nothing
else.
"""

from __future__ import annotations

from copy import copy
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import orjson
from fastapi import Request  # noqa: TC002 - FastAPI reads the annotations of endpoints
from fastapi.responses import Response
from starlette.datastructures import QueryParams

from dbgpt_ctl.controller.api.body import json_object
from dbgpt_ctl.controller.api.openapi import OPERATIONS
from dbgpt_ctl.controller.api.params import caller
from dbgpt_ctl.controller.api.serializers import wire_object
from dbgpt_ctl.controller.request_tracing import SENT, traced
from dbgpt_ctl.domain.fields import parse_bool, parse_model_name_filter
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import FastAPI

    from dbgpt_ctl.controller.controller import Controller
    from dbgpt_ctl.registry.contract import Listing
    from dbgpt_ctl.tracing import Tracer

    Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]

JSON = "application/json"
TRUE, FALSE = Response(b"true", media_type=JSON), Response(b"false", media_type=JSON)
"""One object answers every call: to make one costs as much as to note a beat."""
MAX_KEPT_QUERY = 1024
"""Bytes: who sends more, asks like no DB-GPT client."""
PREFIXES = ("/api", "//api")
"""The second is what a client sends whose configured URL ends in a slash."""


def add_routes(app: FastAPI, controller: Controller, tracer: Tracer | None = None) -> dict[tuple[str, str], Endpoint]:
    """Adds the five endpoints to any FastAPI application, and returns them by method and path."""
    wire = WireEndpoints(controller)
    plain: dict[tuple[str, str], Endpoint] = {
        ("POST", "/controller/heartbeat"): wire.heartbeat,
        ("GET", "/controller/models"): wire.list,
        ("GET", "/health"): wire.health,
        ("POST", "/controller/models"): wire.register,
        ("DELETE", "/controller/models"): wire.deregister,
    }
    routes = traced(plain, tracer)
    for prefix in PREFIXES:
        for (method, path), endpoint in routes.items():
            app.add_api_route(
                prefix + path,
                _answers_of_its_own(endpoint),
                methods=[method],
                tags=["Model Controller"],
                include_in_schema=prefix == PREFIXES[0],
                **OPERATIONS[method, path],
            )
    return {(method, prefix + path): endpoint for prefix in PREFIXES for (method, path), endpoint in routes.items()}


def _answers_of_its_own(endpoint: Endpoint) -> Endpoint:
    """FastAPI, and middleware of a foreign application, write to a response: to none that answers other calls too."""

    @wraps(endpoint)
    async def answering(request: Request) -> Response:
        response = copy(await endpoint(request))
        response.raw_headers = list(response.raw_headers)
        return response

    return answering


class WireEndpoints:
    """The endpoints, each named by its verb."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._encoded: WeakKeyDictionary[Listing, bytes] = WeakKeyDictionary()

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - the shape of an endpoint
        """200 as long as lists can be answered; DB-GPT's clients take nothing but exactly 200 for healthy."""
        health = self._controller.health()
        if not health.ready:
            raise RegistryUnavailable(health.reason or "the registry is not open yet")
        told = {"status": "ok"} if health.reason is None else {"status": "ok", "reason": health.reason}
        return Response(orjson.dumps(told), media_type=JSON)

    async def register(self, request: Request) -> Response:
        """Registers an instance, or updates the weight and prompt template of a known one; it counts as a beat."""
        sent = await _registration(request)
        actor = caller(request)
        await self._controller.registry.register(sent, actor=actor)
        self._controller.journal.registered(sent.key, str(actor.address))
        return TRUE

    async def heartbeat(self, request: Request) -> Response:
        """Notes a beat. `false`: the instance is deregistered and must register to come back."""
        sent = await _registration(request)
        actor = caller(request)
        stored = await self._controller.registry.heartbeat(sent, actor=actor)
        if not stored:
            self._controller.journal.refused(sent.key, str(actor.address))
        return _verdict(stored)

    async def deregister(self, request: Request) -> Response:
        """Deregisters; with `remove_from_registry=true` takes it out of every list. `false`: it was never known."""
        query = request.query_params
        key = InstanceKey.parse(query)
        remove = parse_bool("remove_from_registry", query.get("remove_from_registry"), default=False)
        actor = caller(request)
        known = await self._controller.registry.deregister(key, remove=remove, actor=actor)
        if known:
            self._controller.journal.deregistered(key, str(actor.address), remove=remove)
        return _verdict(known)

    async def list(self, request: Request) -> Response:
        """All instances, or those of one `model_name`; with `healthy_only=true` those that can be routed to."""
        query = request.scope["query_string"]
        model_name, healthy_only = _asked(query) if len(query) <= MAX_KEPT_QUERY else _asked.__wrapped__(query)
        listing = await self._controller.registry.list(model_name, healthy_only=healthy_only)
        return Response(self._encode(listing), media_type=JSON, headers=_remarks(listing))

    def _encode(self, listing: Listing) -> bytes:
        """The same listing answers many calls: its bytes are made once."""
        encoded = self._encoded.get(listing)
        if encoded is None:
            encoded = self._encoded[listing] = orjson.dumps([wire_object(entry) for entry in listing.entries])
        return encoded


@lru_cache(maxsize=1024)
def _asked(query_string: bytes) -> tuple[str | None, bool]:
    """The model's name, None for all, and whether only the routable are wanted; what was asked before is not parsed
    again.
    """
    query = QueryParams(query_string)
    healthy_only = parse_bool("healthy_only", query.get("healthy_only"), default=False)
    return parse_model_name_filter(query.get("model_name")), healthy_only


def _remarks(listing: Listing) -> dict[str, str] | None:
    """What an operator should know of a list that is not as ever; the nine keys have no room for it."""
    if listing.stale_since is None and listing.held_until is None and listing.time is None:
        return None
    times = {
        "X-Ctl-Stale-Since": listing.stale_since,
        "X-Ctl-Held-Until": listing.held_until,
        "X-Ctl-Time": listing.time,
    }
    return {name: time.isoformat(timespec="microseconds") for name, time in times.items() if time is not None}


async def _registration(request: Request) -> Registration:
    """What the body registers; noted for a span."""
    sent = request.scope[SENT] = Registration.parse(await json_object(request))
    return sent


def _verdict(value: bool) -> Response:  # noqa: FBT001 - it is the answer
    return TRUE if value else FALSE
