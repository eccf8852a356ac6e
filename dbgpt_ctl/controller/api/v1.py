"""The endpoints beyond DB-GPT's, under /api/v1: parse the request, call the registry once, answer.

They are ordinary routes of FastAPI, because they are called far less often than heartbeats. Answers carry a version.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from fastapi.responses import Response, StreamingResponse

from dbgpt_ctl.controller.api.parameters import newer_parameters
from dbgpt_ctl.controller.api.status import encoded_status, status_of
from dbgpt_ctl.controller.audit.audited_routes import note_prune, noting_change
from dbgpt_ctl.controller.auth.report import report
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.problems import UnknownInstance
from dbgpt_ctl.controller.http.request import caller, json_object, registered
from dbgpt_ctl.controller.http.routes import JSON, REGISTRY_ERRORS, Route
from dbgpt_ctl.controller.http.serializers import VERSION, caveats, event_object, known_object, versioned
from dbgpt_ctl.controller.http.v1_params import (
    DRAIN_FIELDS,
    REGISTERED_FIELDS,
    Cursor,
    parse_drain,
    parse_drain_request,
    parse_event_filter,
    parse_instance_filter,
    parse_older_than,
    parse_switch,
    parse_whole_number,
    reject_unknown_fields,
)
from dbgpt_ctl.controller.service.large_lists import LARGE, encoded_in_turns
from dbgpt_ctl.controller.watch.subscriber import HEADERS, WatchResponse
from dbgpt_ctl.domain.events import ActorKind
from dbgpt_ctl.domain.fields import parse_key
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import RegistryFull, StatesHeld, TooManyWatchers, VerbNotSupported
from dbgpt_ctl.wire import answers, auth, events, instances, queries, status
from dbgpt_ctl.wire.encoding import encoded
from dbgpt_ctl.wire.fields import DEFAULT_LIMIT, MAX_EVENT_ID, MAX_LIMIT

if TYPE_CHECKING:
    from fastapi import Request

    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.registry.contract import Listing, Lookup

OPERATOR = ActorKind.OPERATOR
READ_ERRORS = REGISTRY_ERRORS | {VerbNotSupported}
CHANGE_ERRORS = READ_ERRORS | {UnknownInstance}


class ApiEndpoints:
    """The endpoints; each method is named by its verb."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def routes(self) -> tuple[Route, ...]:
        """The routes of /api/v1."""
        return (
            Route(
                "GET",
                "/v1/instances",
                self.list,
                RouteAccess.READER,
                answers.KnownInstances,
                queries.KnownInstancesQuery,
                errors=READ_ERRORS,
            ),
            Route(
                "GET",
                "/v1/instance",
                self.get,
                RouteAccess.READER,
                answers.OneInstance,
                instances.Identity,
                errors=CHANGE_ERRORS,
            ),
            Route(
                "POST",
                "/v1/register",
                self.register,
                RouteAccess.OPERATOR,
                answers.DrainedObject,
                body=instances.DrainedRegistration,
                errors=READ_ERRORS | {RegistryFull},
            ),
            Route(
                "POST",
                "/v1/drain",
                self.drain,
                RouteAccess.OPERATOR,
                answers.DrainedObject,
                body=instances.DrainObject,
                errors=CHANGE_ERRORS,
            ),
            Route(
                "POST",
                "/v1/undrain",
                self.undrain,
                RouteAccess.OPERATOR,
                answers.DrainedObject,
                body=instances.Identity,
                errors=CHANGE_ERRORS,
            ),
            Route(
                "POST",
                "/v1/prune",
                self.prune,
                RouteAccess.OPERATOR,
                answers.Pruned,
                body=instances.Prune,
                errors=READ_ERRORS | {StatesHeld},
            ),
            Route(
                "GET",
                "/v1/events",
                self.events,
                RouteAccess.READER,
                events.Events,
                queries.EventsQuery,
                errors=READ_ERRORS,
            ),
            Route("GET", "/v1/status", self.status, RouteAccess.READER, status.Status),
            Route("GET", "/v1/auth", self.auth, RouteAccess.OPERATOR, auth.AuthReportObject, errors=READ_ERRORS),
            Route(
                "GET",
                "/v1/watch",
                self.watch,
                RouteAccess.READER,
                events.Watch,
                queries.WatchQuery,
                errors=READ_ERRORS | {TooManyWatchers},
                media_type=WatchResponse.media_type,
            ),
        )

    async def list(self, request: Request) -> Response:
        """All instances with all their facts, or those that match every parameter."""
        instance_filter = parse_instance_filter(request.query_params)
        lists, registry = self._controller.large_lists, self._controller.registry
        listing = await registry.list(instance_filter.models.model_name)
        if len(listing.entries) <= LARGE:
            selected = map(known_object, filter(instance_filter.matches, listing.entries))
            pieces = (self._head(listing), *await encoded_in_turns(selected), b"]}")
            return Response(b"".join(pieces), media_type=JSON)
        listing, encoded = await lists.encoded(
            listing,
            lambda: registry.list(instance_filter.models.model_name),
            known_object,
            selected=instance_filter.matches,
            key=instance_filter,
        )
        return lists.answer(encoded, JSON, None, (self._head(listing), b"]}"))

    async def get(self, request: Request) -> Response:
        """One instance; also one that was removed, for as long as it is remembered."""
        key = parse_key(request.query_params)
        found = _known(key, await self._controller.registry.get(key))
        return versioned(**self._found(found))

    async def register(self, request: Request) -> Response:
        """Registers an instance and drains it in one step: it gets no request in between. One event reports both.

        A known instance is updated as by any register, and drained as by `drain`. Repeatable.
        """
        fields = reject_unknown_fields(await json_object(request), *InstanceKey._fields, *REGISTERED_FIELDS, "drain")
        sent = registered(request, {**fields, "enabled": False}, deny_loopback=self._controller.deny_loopback_hosts)
        drain = parse_drain(fields.get("drain"))
        registry = self._controller.registry
        register = partial(registry.register, sent, drain=drain, actor=caller(request, OPERATOR))
        found = await noting_change(request.scope, registry, sent.key, register)
        return self._drained(_known(sent.key, found))

    async def drain(self, request: Request) -> Response:
        """Keeps requests from an instance for a time, or until `undrain`, whatever its worker sends meanwhile.

        Repeatable: it replaces the end of the drain, and its reason if it gives one.
        """
        fields = reject_unknown_fields(await json_object(request), *InstanceKey._fields, *DRAIN_FIELDS)
        key, (reason, duration) = parse_key(fields), parse_drain_request(fields)
        registry = self._controller.registry
        drain = partial(registry.drain, key, reason=reason, duration=duration, actor=caller(request, OPERATOR))
        found = await noting_change(request.scope, registry, key, drain)
        return self._drained(_known(key, found))

    async def undrain(self, request: Request) -> Response:
        """Ends a drain. Repeatable."""
        key = parse_key(reject_unknown_fields(await json_object(request), *InstanceKey._fields))
        registry = self._controller.registry
        undrain = partial(registry.undrain, key, actor=caller(request, OPERATOR))
        return self._drained(_known(key, await noting_change(request.scope, registry, key, undrain)))

    async def prune(self, request: Request) -> Response:
        """Forgets instances that have been unhealthy or deregistered for longer, but no drained ones."""
        fields = reject_unknown_fields(await json_object(request), "older_than_secs", "dry_run", "unchecked")
        older_than = parse_older_than(fields.get("older_than_secs"))
        dry_run, unchecked = (parse_switch(name, fields.get(name, False)) for name in ("dry_run", "unchecked"))
        keys = await self._controller.registry.prune(
            older_than, dry_run=dry_run, unchecked=unchecked, actor=caller(request, OPERATOR)
        )
        note_prune(request.scope, older_than.total_seconds(), keys, dry_run=dry_run)
        encoded = b"".join(await encoded_in_turns(key._asdict() for key in keys))
        head = orjson.dumps({"version": VERSION, "dry_run": dry_run})
        return Response(b'%b,"instances":[%b]}' % (head[:-1], encoded), media_type=JSON)

    async def events(self, request: Request) -> Response:
        """Changes of state in order of id: the first `limit` after the id `after`; without `after` the last `limit`."""
        query = request.query_params
        after = parse_whole_number("after", query["after"], 0, MAX_EVENT_ID) if query.get("after") else None
        limit = parse_whole_number("limit", query["limit"], 1, MAX_LIMIT) if query.get("limit") else DEFAULT_LIMIT
        page = await self._controller.registry.events(where=parse_event_filter(query), after=after, limit=limit)
        return versioned(
            stream=page.stream,
            last_id=page.last_id,
            missed=page.missed,
            next_after=page.next_after,
            complete_since=page.complete_since,
            operator_complete_since=page.operator_complete_since,
            events=list(map(event_object, page.events)),
        )

    async def status(self, request: Request) -> Response:  # noqa: ARG002 - the signature of an endpoint
        """The state of this controller and of its registry, and the number of instances by model and state."""
        found, _ = await status_of(self._controller, newer_parameters(self.routes()))
        return Response(await encoded_status(found), media_type=JSON)

    async def auth(self, request: Request) -> Response:  # noqa: ARG002 - the signature of an endpoint
        """The tokens and when they were used last, and the requests that enforce mode refuses, at this controller."""
        access = self._controller.access
        if access is None:
            raise VerbNotSupported("this controller checks no requests")
        access.tick()
        return Response(encoded(report(access)), media_type=JSON)

    async def watch(self, request: Request) -> Response:
        """Changes as they happen, as server-sent events: those after the last id that was received, or from now on."""
        instance_filter = parse_instance_filter(request.query_params)
        cursor = Cursor.parse(request.headers.get("last-event-id") or request.query_params.get("cursor"))
        subscriber = await self._controller.feed.subscribe(instance_filter, cursor)
        if request.method == "HEAD":  # the same errors and headers, and no stream
            subscriber.end()
            return StreamingResponse((), headers=HEADERS, media_type=WatchResponse.media_type)
        return WatchResponse(subscriber, self._controller.long_answers)

    def _drained(self, found: Lookup) -> Response:
        return versioned(**self._found(found), durable=self._controller.registry.describe().durable)

    def _found(self, found: Lookup) -> dict[str, Any]:
        return {
            "time": found.time or self._controller.now(),
            "held_until": found.held_until,
            "heartbeat_timeouts_secs": found.heartbeat_timeouts_secs,
            "instance": known_object(found.entry),
        }

    def _head(self, listing: Listing) -> bytes:
        """What stands before the instances of a list."""
        return encoded({"version": VERSION, **caveats(listing, self._controller.now())})[:-1] + b',"instances":['


def _known(key: InstanceKey, found: Lookup | None) -> Lookup:
    if found is None:
        raise UnknownInstance(key)
    return found
