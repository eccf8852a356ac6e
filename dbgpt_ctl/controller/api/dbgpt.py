"""DB-GPT's API: parse the request, call the registry once, answer. docs/protocol.md describes the wire.

Every successful answer has exactly the status 200 and, for a list, exactly nine keys per instance: DB-GPT's clients
accept nothing else.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import orjson
from starlette.datastructures import QueryParams

from dbgpt_ctl.controller.audit.audited_routes import CHANGE, noting_change
from dbgpt_ctl.controller.http.callers import RouteAccess, check_instance, forget_instance, may_read
from dbgpt_ctl.controller.http.prepared import PreparedResponse
from dbgpt_ctl.controller.http.request import caller, registration
from dbgpt_ctl.controller.http.routes import JSON, REGISTRY_ERRORS, Route
from dbgpt_ctl.controller.http.serializers import wire_object
from dbgpt_ctl.controller.service.large_lists import LARGE
from dbgpt_ctl.domain.fields import parse_bool, parse_key, parse_text_filter
from dbgpt_ctl.errors import ControllerLeaving, ForwardsToItself, RegistryFull, RegistryUnavailable
from dbgpt_ctl.wire import answers, instances, queries

if TYPE_CHECKING:
    from datetime import datetime

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.domain.instance import Registration
    from dbgpt_ctl.registry.contract import Listing

EVERYONE, READER, WORKER = RouteAccess.EVERYONE, RouteAccess.READER, RouteAccess.WORKER
HEALTH_ERRORS = frozenset({ControllerLeaving, RegistryUnavailable, ForwardsToItself})
MODELS, HEARTBEAT = "/controller/models", "/controller/heartbeat"
TRUE, FALSE = PreparedResponse(b"true", JSON), PreparedResponse(b"false", JSON)
"""One object answers every call: to make a new one costs as much as to store a heartbeat."""
LIST_HEADERS = {
    "X-Ctl-Stale-Since": "stale_since",
    "X-Ctl-Held-Until": "held_until",
    "X-Ctl-Time": "time",
    "X-Ctl-Heartbeat-Timeouts": "heartbeat_timeouts_secs",
}
"""The facts of a `Listing` for which the nine keys of an instance have no place."""
HIDDEN_REASON = "this controller cannot answer lists now; a token shows why"
MAX_CACHED_QUERY_BYTES = 1024
"""A longer query string does not come from a DB-GPT client, and is parsed each time."""


class DbgptEndpoints:
    """The five endpoints; each method is named by its verb."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._answers: WeakKeyDictionary[Listing, PreparedResponse] = WeakKeyDictionary()

    def routes(self) -> tuple[Route, ...]:
        """The routes of DB-GPT's API."""
        can_be_full = REGISTRY_ERRORS | {RegistryFull}
        return (
            Route(
                "POST",
                HEARTBEAT,
                self.heartbeat,
                WORKER,
                instances.HeartbeatStored,
                body=instances.RegistrationObject,
                errors=can_be_full,
            ),
            Route("GET", MODELS, self.list, READER, instances.Instances, query=queries.ListQuery, headers=LIST_HEADERS),
            Route("GET", "/health", self.health, EVERYONE, answers.Health, errors=HEALTH_ERRORS),
            Route(
                "POST",
                MODELS,
                self.register,
                WORKER,
                instances.Stored,
                body=instances.RegistrationObject,
                errors=can_be_full,
            ),
            Route("DELETE", MODELS, self.deregister, WORKER, instances.WasKnown, query=queries.DeregisterQuery),
        )

    async def health(self, request: Request) -> Response:
        """200 as long as lists can be answered; DB-GPT's clients accept nothing but exactly 200 as healthy. The reason
        is for those who may read: it names hosts and files.
        """
        health, shown = self._controller.health(), may_read(request.scope)
        if not health.ready:
            kind = ControllerLeaving if self._controller.leaving else RegistryUnavailable
            raise kind((health.reason or "the registry is not open yet") if shown else HIDDEN_REASON)
        reason = health.reason if shown else None
        answer = {"status": "ok"} if reason is None else {"status": "ok", "reason": reason}
        return PreparedResponse(orjson.dumps(answer), JSON)

    async def register(self, request: Request) -> Response:
        """Registers an instance, or updates the weight and prompt template of a known one; it counts as a beat."""
        sent = await self._registration(request)
        check_instance(request.scope, sent.key)
        registry = self._controller.registry
        register = partial(registry.register, sent, actor=caller(request))
        await noting_change(request.scope, registry, sent.key, register)
        return TRUE

    async def heartbeat(self, request: Request) -> Response:
        """Stores a beat. `false`: the instance is deregistered and must register to come back."""
        sent = await self._registration(request)
        check_instance(request.scope, sent.key)
        actor, registry = caller(request), self._controller.registry
        if CHANGE in request.scope:
            heartbeat = partial(registry.heartbeat, sent, actor=actor)
            stored = await noting_change(request.scope, registry, sent.key, heartbeat)
        else:
            stored = await registry.heartbeat(sent, actor=actor)
        if not stored:
            forget_instance(request.scope, sent.key)
            self._controller.counters.heartbeats_refused += 1
            self._controller.state_log.refused(sent.key, str(actor.caller))
        return TRUE if stored else FALSE

    async def deregister(self, request: Request) -> Response:
        """Deregisters; with `remove_from_registry=true` takes it out of every list. `false`: it was never known."""
        query = request.query_params
        key = parse_key(query)
        check_instance(request.scope, key)
        remove = parse_bool("remove_from_registry", query.get("remove_from_registry"), default=False)
        registry = self._controller.registry
        deregister = partial(registry.deregister, key, remove=remove, actor=caller(request))
        known = await noting_change(request.scope, registry, key, deregister)
        return TRUE if known else FALSE

    async def list(self, request: Request) -> Response:
        """All instances, or those of one `model_name`; with `healthy_only=true` those that can be routed to."""
        query = request.scope["query_string"]
        parse = _list_arguments if len(query) <= MAX_CACHED_QUERY_BYTES else _list_arguments.__wrapped__
        model_name, healthy_only = parse(query)
        listing = await self._controller.registry.list(model_name, healthy_only=healthy_only)
        if len(listing.entries) > LARGE:
            return await self._large_list(listing, model_name, healthy_only=healthy_only)
        return self._answer(listing)

    async def _large_list(self, listing: Listing, model_name: str | None, *, healthy_only: bool) -> Response:
        lists, registry = self._controller.large_lists, self._controller.registry
        listing, encoded = await lists.encoded(
            listing, lambda: registry.list(model_name, healthy_only=healthy_only), wire_object
        )
        return lists.answer(encoded, JSON, _headers(listing), (b"[", b"]"))

    async def _registration(self, request: Request) -> Registration:
        return await registration(request, deny_loopback=self._controller.deny_loopback_hosts)

    def _answer(self, listing: Listing) -> PreparedResponse:
        """The same listing answers many calls: the answer is made once."""
        answer = self._answers.get(listing)
        if answer is None:
            encoded = orjson.dumps([wire_object(entry) for entry in listing.entries])
            answer = self._answers[listing] = PreparedResponse(encoded, JSON, _headers(listing))
        return answer


@lru_cache(maxsize=1024)
def _list_arguments(query_string: bytes) -> tuple[str | None, bool]:
    """The model's name, None for all, and whether only routable instances are wanted."""
    query = QueryParams(query_string)
    healthy_only = parse_bool("healthy_only", query.get("healthy_only"), default=False)
    return parse_text_filter("model_name", query.get("model_name")), healthy_only


def _headers(listing: Listing) -> dict[str, str] | None:
    """What an operator should know of a list that is stale, held, of another clock, or of one of several timeouts; None
    for any other.
    """
    found = {header: value for header, name in LIST_HEADERS.items() if (value := getattr(listing, name))}
    return {header: _header(value) for header, value in found.items()} or None


def _header(value: datetime | tuple[float, ...]) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else value.isoformat(timespec="microseconds")
