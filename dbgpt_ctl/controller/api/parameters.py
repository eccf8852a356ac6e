"""The query parameters of /api/v1, as `wire` declares them: unknown ones are refused, and new ones are announced.

DB-GPT's endpoints ignore unknown ones, because clients that nobody can update call them.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any

from starlette.datastructures import QueryParams

from dbgpt_ctl.controller.http.routes import with_precheck
from dbgpt_ctl.controller.http.v1_params import reject_unknown_fields
from dbgpt_ctl.wire.json_schema import schema_of_request
from dbgpt_ctl.wire.queries import PLACE, SINCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import Scope

    from dbgpt_ctl.controller.http.routes import Route


def with_known_parameters(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The same routes. Those of /api/v1 raise InvalidInstance for a parameter that they do not declare: a misspelt
    filter would select everything.
    """
    return tuple(with_precheck(route, partial(_check, route.query)) if route.is_v1 else route for route in routes)


def newer_parameters(routes: Iterable[Route]) -> dict[str, list[str]]:
    """The parameters that release 0.1.0 does not know, by path. A client sends no other new ones: see
    `client.failover`.
    """
    declared = {route.paths[0]: _declared(route.query) for route in routes if route.is_v1}
    newer = {path: [name for name, since in names.items() if since] for path, names in declared.items()}
    return {path: names for path, names in newer.items() if names}


def _check(query: Any, scope: Scope) -> None:
    if scope["query_string"]:
        reject_unknown_fields(QueryParams(scope["query_string"]), *_declared(query))


@cache
def _declared(query: Any) -> Mapping[str, str | None]:
    """The parameters of a query, each with the release that it came with; None for 0.1.0."""
    fields = {} if query is None else schema_of_request(query)["properties"]
    return {name: field.get(SINCE) for name, field in fields.items() if PLACE not in field}
