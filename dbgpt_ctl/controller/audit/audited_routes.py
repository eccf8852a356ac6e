"""Which requests are in the audit log, and what their lines say.

A request with an operator's route that is no GET has a line, and so has a register or deregister of DB-GPT's API that
an operator sends, and an operator's heartbeat if it registers the instance or changes its state. Whoever is refused at
an operator's route has one too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from dbgpt_ctl.auth.tokens import Role
from dbgpt_ctl.controller.audit.audit_log import named
from dbgpt_ctl.controller.auth.refusal_log import MAX_KEPT, shown
from dbgpt_ctl.controller.http.callers import IDENTITY, RouteAccess, credentials_of
from dbgpt_ctl.controller.http.problems import InternalError
from dbgpt_ctl.controller.http.request import caller, header_map
from dbgpt_ctl.controller.http.source import source_of
from dbgpt_ctl.controller.logs.current_request import INSTANCE, instance_of, request_id, trace_id
from dbgpt_ctl.controller.logs.formats import instance_fields, utc_time
from dbgpt_ctl.domain.events import ABSENT, ActorKind
from dbgpt_ctl.errors import AccessRefused, CtlError
from dbgpt_ctl.registry.contract import Lookup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.auth.tokens import Reason, Token
    from dbgpt_ctl.controller.audit.audit_log import AuditLog
    from dbgpt_ctl.controller.http.callers import Caller
    from dbgpt_ctl.controller.http.routes import Endpoint, Route
    from dbgpt_ctl.controller.logs.current_request import HttpScope
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import ModelRegistry

Answer = TypeVar("Answer")
CHANGE = "dbgpt_ctl.change"
"""Key in a request's scope: the AuditedChange that its endpoint makes; absent where there is no audit log."""
MAX_DETAIL_CHARS = 300
OPERATOR = RouteAccess.OPERATOR
HEARTBEAT = "heartbeat"


@dataclass(slots=True)
class AuditedChange:
    """What an endpoint notes of the change that it makes. `changes_nothing`: it was only a trial, or a heartbeat like
    most of them; it has no line.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    changes_nothing: bool = False


async def noting_change(
    scope: HttpScope, registry: ModelRegistry, key: InstanceKey, change: Callable[[], Awaitable[Answer]]
) -> Answer:
    """The answer of `change`, a call of the registry that changes this instance. With an audit log, the state before
    and after it are noted. Each is read on its own: another caller may change the instance in between.
    """
    scope[INSTANCE] = key
    audited: AuditedChange | None = scope.get(CHANGE)
    if audited is None:
        return await change()
    audited.facts["before"] = await _facts(registry, key)
    answer = await change()
    audited.facts["after"] = facts_of(answer) if isinstance(answer, Lookup) else await _facts(registry, key)
    if audited.facts["before"] != audited.facts["after"]:
        audited.changes_nothing = False
    return answer


def note_prune(scope: HttpScope, older_than_secs: float, keys: Collection[InstanceKey], *, dry_run: bool) -> None:
    """Notes which instances a prune has removed, if there is an audit log."""
    audited: AuditedChange | None = scope.get(CHANGE)
    if audited is not None:
        audited.changes_nothing = dry_run
        audited.facts = {"older_than_secs": older_than_secs, "removed": named(keys)}


async def _facts(registry: ModelRegistry, key: InstanceKey) -> dict[str, Any] | None:
    """The state of the instance now; None if the registry does not say it."""
    try:
        return facts_of(await registry.get(key))
    except CtlError:  # the change itself meets the same error, and answers with it
        return None


def facts_of(found: Lookup | None) -> dict[str, Any]:
    """The state and the drain of an instance."""
    if found is None or found.entry.instance.removed:
        return {"state": ABSENT, "drained": False}
    entry, drain = found.entry, found.entry.drain
    facts: dict[str, Any] = {"state": entry.state.value, "drained": drain is not None}
    if drain is not None:
        facts |= {"reason": drain.reason, "until": None if drain.until is None else utc_time(drain.until)}
    return facts


class AuditedRoutes:
    """Writes the lines of requests to `audit`. Its `routes` are the given ones, whose endpoints are audited; they must
    stand behind the check of the access.
    """

    def __init__(self, audit: AuditLog, routes: Iterable[Route]) -> None:
        routes = tuple(routes)
        self._audit = audit
        self._operators_verbs = {
            (route.method, path): route.verb for route in routes if route.access is OPERATOR for path in route.paths
        }
        self.routes = tuple(
            replace(route, endpoint=self._audited(route)) if _is_change(route) else route for route in routes
        )

    def refused(self, scope: HttpScope, reason: Reason, token: Token | None) -> None:
        """The check of the access refuses a request of an operator's route. `token` is one that is known, if any."""
        fields, name = request_fields(scope), None
        if token is not None:
            name = token.name
            fields |= {"actor_name": name, "role": token.role}
        self._audit.write_of_stranger(self._action(scope), "refused", {**fields, "reason": reason.value}, token=name)

    def guarded(self, check: Callable[[HttpScope], None]) -> Callable[[HttpScope], None]:
        """The check of hosts and origins, whose refusals of operators' routes are audited."""

        def checking(scope: HttpScope) -> None:
            try:
                check(scope)
            except CtlError as error:
                if (scope["method"], scope["path"]) in self._operators_verbs:
                    fields = {**request_fields(scope), "reason": error.code, "detail": _detail(error)}
                    self._audit.write_of_stranger(self._action(scope), "refused", fields)
                raise

        return checking

    def _action(self, scope: HttpScope) -> str:
        method = "GET" if scope["method"] == "HEAD" else str(scope["method"])
        return self._operators_verbs.get((method, scope["path"])) or method.lower()

    def _audited(self, route: Route) -> Endpoint:
        @wraps(route.endpoint)
        async def auditing(request: Request) -> Response:
            if route.access is not OPERATOR and not _is_operators(request):
                return await route.endpoint(request)
            change = request.scope[CHANGE] = AuditedChange(changes_nothing=route.verb == HEARTBEAT)
            try:
                response = await route.endpoint(request)
            except AccessRefused:  # `refused` has written it
                raise
            except CtlError as error:
                self._write_failure(route, request, change, error.code, _detail(error))
                raise
            except BaseException as error:  # also when the server ends before the answer
                self._write_failure(route, request, change, InternalError.code, type(error).__name__)
                raise
            if not change.changes_nothing:
                self._audit.write(route.verb, "done", self._fields(route, request, change))
            return response

        return auditing

    def _write_failure(self, route: Route, request: Request, change: AuditedChange, error: str, detail: str) -> None:
        if change.changes_nothing:
            return
        fields = {**self._fields(route, request, change), "error": error, "detail": detail}
        sender: Caller | None = request.scope.get(IDENTITY)
        proven = sender is not None and sender.name is not None
        (self._audit.write if proven else self._audit.write_of_stranger)(route.verb, "failed", fields)

    def _fields(self, route: Route, request: Request, change: AuditedChange) -> dict[str, Any]:
        kind = ActorKind.OPERATOR if route.access is OPERATOR else ActorKind.WORKER
        fields = {"actor": caller(request, kind).kind, **request_fields(request.scope)}
        return fields | instance_fields(instance_of(request.scope)) | change.facts


def _is_change(route: Route) -> bool:
    return route.method != "GET"


def _is_operators(request: Request) -> bool:
    """Whether an operator sends the request: the role of its token, or the claim of a header, says so."""
    sender: Caller | None = request.scope.get(IDENTITY)
    is_role = sender is not None and sender.role is Role.OPERATOR
    return is_role or caller(request).kind is ActorKind.OPERATOR


def request_fields(scope: HttpScope) -> dict[str, Any]:
    """Who sends the request, as far as a token proves it, and from where. What the sender says of itself, `label` and
    `user_agent`, is escaped, masked and cut.
    """
    sender: Caller | None = scope.get(IDENTITY)
    headers = header_map(scope)
    credentials = credentials_of(headers.get(b"authorization", b""))
    label = None if credentials is None or credentials.label is None else shown(credentials.label[:MAX_KEPT])
    fields = {
        "actor_name": None if sender is None else sender.name,
        "role": None if sender is None else sender.role,
        "address": source_of(scope),
        "user_agent": shown(headers.get(b"user-agent", b"")[:MAX_KEPT].decode("latin-1")),
        "label": label,
        "request_id": request_id(scope),
        "trace_id": trace_id(scope),
    }
    return {name: value for name, value in fields.items() if value is not None or name in _ALWAYS}


_ALWAYS = frozenset({"actor_name", "role", "address"})
"""Null in them has a meaning: no valid token came."""


def _detail(error: CtlError) -> str:
    return str(error)[:MAX_DETAIL_CHARS]
