"""The OpenAPI document: what it says of each route, made of the models in `schemas` when it is requested.

The endpoints take a raw request, for speed, so FastAPI cannot read their parameters off them. Everything stands in the
operation itself, without references, so that it is whole in a foreign application too.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.api import problems
from dbgpt_ctl.controller.api.routes import PREFIXES
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import (
    BodyTooLarge,
    CtlError,
    InvalidInstance,
    RegistryError,
    RegistryFull,
    RegistryUnavailable,
    RegistryUnusable,
    TooManyWatchers,
    UnsupportedMediaType,
    VerbNotSupported,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastapi import FastAPI
    from pydantic import BaseModel

    from dbgpt_ctl.controller.api.routes import Route

    Schema = dict[str, Any]

EXAMPLES: Sequence[CtlError] = (
    problems.UnknownInstance(InstanceKey("qwen3@llm", "10.0.0.4", 8001)),
    BodyTooLarge("the body is larger than 65536 bytes"),
    UnsupportedMediaType("content type 'text/plain' is not JSON; send Content-Type: application/json"),
    InvalidInstance("model_name", "model_name 'qwen3' is not NAME@TYPE with exactly one '@', as in qwen@llm"),
    RegistryFull(
        "qwen3@llm/10.0.0.4:8001 refused: it would be one more than the 200000 that --max-instances allows; "
        "deregister some with --remove or raise it"
    ),
    RegistryError("the controller behind this one: http://10.0.0.2:8000 refused: 404 Not Found"),
    RegistryUnusable("database db1:3306/dbgpt: Access denied for user 'ctl'; check the user and the password"),
    VerbNotSupported(
        "the controller behind this one: http://10.0.0.2:8000 does not support this: it has no /api/v1/drain because "
        "it is DB-GPT's own controller or an older ctl"
    ),
    RegistryUnavailable("database db1:3306/dbgpt: Connection refused"),
    TooManyWatchers("this controller serves 10000 watchers already; end some, or ask another controller"),
)
"""One of each error that an endpoint may answer with, in the order of their status."""


def describe(app: FastAPI, routes: Iterable[Route]) -> None:
    """Adds the operations of `routes` to the document of `app`, as FastAPI documents under "Extending OpenAPI"."""
    generate = app.openapi
    operations = cache(
        lambda: {(PREFIXES[0] + route.path, route.method.lower()): _operation(route) for route in routes}
    )

    def openapi() -> dict[str, Any]:
        document = generate()
        for (path, method), operation in operations().items():
            document["paths"].get(path, {}).get(method, {}).update(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def schema_of(name: str) -> Schema:
    """The JSON Schema of the model of that name, without references, and with an example of each field."""
    from pydantic.json_schema import GenerateJsonSchema

    from dbgpt_ctl.controller.api import schemas

    class WithoutFieldTitles(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - as pydantic calls it
            return False

    model: type[BaseModel] = getattr(schemas, name)
    schema = model.model_json_schema(schema_generator=WithoutFieldTitles)
    whole: Schema = _without_references(schema, schema.pop("$defs", {}))
    _add_examples(whole)
    return whole


def _without_references(schema: Any, definitions: Schema) -> Any:
    if isinstance(schema, list):
        return [_without_references(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    definition = definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else {}
    return {
        name: _without_references(value, definitions)
        for name, value in {**definition, **schema}.items()
        if name != "$ref" and not (name == "default" and value is None)
    }


def _add_examples(schema: Schema) -> Any:
    """Gives `schema` and all its parts an example, where they have none, and returns that of `schema`."""
    if "items" in schema:
        of_parts: Any = [_add_examples(schema["items"])]
    elif schema.get("type") == "boolean":
        of_parts = True
    else:
        of_parts = {name: _add_examples(field) for name, field in schema.get("properties", {}).items()}
    return schema.setdefault("examples", [of_parts])[0]


def _operation(route: Route) -> Schema:
    """The part of an operation that FastAPI does not know."""
    operation: Schema = {"responses": {"200": _good_response(route), **_problem_responses(route)}}
    if route.query is not None:
        operation["parameters"] = _parameters(route.query)
    if route.body is not None:
        content = {"application/json": {"schema": schema_of(route.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(model: str) -> list[Schema]:
    schema = schema_of(model)
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": field.pop("in", "query"),
            "required": name in required,
            "description": field.pop("description"),
            "example": field.pop("examples")[0],
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def _good_response(route: Route) -> Schema:
    schema = schema_of(route.answer)
    content = {route.media_type: {"schema": schema, "example": schema["examples"][0]}}
    response: Schema = {"description": schema["description"], "content": content}
    return response | ({"headers": _headers(route.headers)} if route.headers else {})


def _headers(model: str) -> Schema:
    return {
        field["name"]: {name: field[name] for name in ("description", "schema", "example")}
        for field in _parameters(model)
    }


def _problem_responses(route: Route) -> dict[str, Schema]:
    """By status, the problems that the route may answer with."""
    codes = {error.code for error in route.possible_errors}
    possible = [problem for problem in map(_problem, EXAMPLES) if problem["code"] in codes]
    schema, responses = schema_of("Problem"), {}
    for status, same in groupby(sorted([*possible, problems.INTERNAL_ERROR], key=_status), _status):
        examples = {problem["code"]: {"summary": problem["title"], "value": problem} for problem in same}
        responses[str(status)] = {
            "description": " or ".join(f"{example['summary']} (`{code}`)" for code, example in examples.items()) + ".",
            "content": {problems.MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }
    responses["503"]["headers"] = _headers("ProblemHeaders")
    return responses


def _problem(error: CtlError) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(bytes(problems.of_error(error).body))
    return problem


def _status(problem: dict[str, Any]) -> int:
    status: int = problem["status"]
    return status
