"""The OpenAPI document: what it says of each route, made of the structs of `wire` when it is requested.

The endpoints take a raw request, for speed, so FastAPI cannot read their parameters off them. Everything stands in the
operation itself, without references, so that it is whole in a foreign application too.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.http import problems
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.wire.answers import Listed, Problem
from dbgpt_ctl.wire.json_schema import schema_of_answer, schema_of_request
from dbgpt_ctl.wire.queries import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI

    from dbgpt_ctl.controller.http.routes import Route
    from dbgpt_ctl.errors import CtlError
    from dbgpt_ctl.wire.json_schema import Schema

SECURITY_SCHEMES = {
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The token as the password, with any user; or as the user, with an empty password. DB-GPT sends "
        "it if its address of the controller is `http://NAME:TOKEN@HOST:PORT`.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "The token itself."},
}
"""The ways to send a token. A controller with authentication off ignores them."""


def describe(app: FastAPI, routes: Iterable[Route]) -> None:
    """Adds the operations of `routes` to the document of `app`, as FastAPI documents under "Extending OpenAPI"."""
    generate = app.openapi
    operations = cache(lambda: {(route.paths[0], route.method.lower()): _operation(route) for route in routes})

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("securitySchemes", {}).update(SECURITY_SCHEMES)
        for (path, method), operation in operations().items():
            document["paths"].get(path, {}).get(method, {}).update(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _operation(route: Route) -> Schema:
    """The part of an operation that FastAPI does not know."""
    operation: Schema = {
        "security": _security(route.access),
        "responses": {**_good_responses(route), **_problem_responses(route)},
    }
    if route.query is not None:
        operation["parameters"] = _parameters(route.query)
    if route.body is not None:
        content = {"application/json": {"schema": schema_of_request(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _security(access: RouteAccess) -> list[dict[str, list[str]]]:
    """The schemes, each with the least role that suffices; empty for a route that needs no token."""
    if access is RouteAccess.EVERYONE:
        return []
    return [{scheme: [str(access.roles[0])]} for scheme in SECURITY_SCHEMES]


def _parameters(query: Any) -> list[Schema]:
    schema = schema_of_request(query)
    required = schema.get("required", ())
    return [
        {"name": name, "in": field.pop(PLACE, "query"), "required": name in required, **_header(field)}
        for name, field in schema["properties"].items()
    ]


def _good_responses(route: Route) -> dict[str, Schema]:
    """By status, what is no problem."""
    schema = schema_of_answer(route.answer)
    content = {route.media_type: {"schema": schema, "example": schema["examples"][0]}}
    response: Schema = {"description": schema["description"], "content": content}
    if route.headers:
        fields = schema_of_answer(Listed)["properties"]
        response["headers"] = {header: _header(fields[name]) for header, name in route.headers.items()}
    return {str(int(status)): response for status in route.statuses}


def _header(field: Schema) -> Schema:
    return {"description": field.pop("description"), "example": field.pop("examples")[0], "schema": field}


def _problem_responses(route: Route) -> dict[str, Schema]:
    """By status, the problems that the route may answer with."""
    possible = sorted(map(_problem, route.possible_errors), key=itemgetter("status", "code"))
    schema, responses = schema_of_answer(Problem), {}
    for status, same in groupby(possible, itemgetter("status")):
        examples = {problem["code"]: {"summary": problem["title"], "value": problem} for problem in same}
        responses[str(status)] = {
            "description": " or ".join(f"{example['summary']} (`{code}`)" for code, example in examples.items()) + ".",
            "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }
    if "503" in responses:
        retry_after = {"description": "Seconds after which to try again.", "example": 5, "schema": {"type": "integer"}}
        responses["503"]["headers"] = {"Retry-After": retry_after}
    if "401" in responses:
        challenge = {"description": "The schemes in which a token can be sent.", "schema": {"type": "string"}}
        example = problems.CHALLENGE["WWW-Authenticate"]
        responses["401"]["headers"] = {"WWW-Authenticate": {**challenge, "example": example}}
    return responses


def _problem(error: type[CtlError]) -> Schema:
    """A problem of this kind; its detail is what the kind means."""
    problem = {"type": "about:blank", "title": error.title, "status": error.http_status}
    return {**problem, "detail": meaning(error), "code": error.code}


def meaning(error: type[CtlError]) -> str:
    """The first sentence of the docstring of an error."""
    sentence, _, _ = " ".join((error.__doc__ or "").split()).partition(". ")
    return f"{sentence.removesuffix('.')}."
