"""What the OpenAPI document says of the endpoints.

They take a raw request, for speed, so FastAPI cannot read their parameters off them. Everything stands in the operation
itself, without references, so that it is whole in somebody else's application too.
"""

from __future__ import annotations

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.api import problems
from dbgpt_ctl.controller.api.schemas import HEALTH, IDENTITY, INSTANCE, PROBLEM, REGISTRATION, Schema
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
    from collections.abc import Collection, Sequence

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
    TooManyWatchers("10000 watch already; end some, or ask another controller"),
)
"""One of each error that an endpoint may answer with, in the order of their status."""
INTERNAL_ERROR = {
    "type": "about:blank",
    "title": "Internal error",
    "status": 500,
    "detail": "the controller failed at this request; its log says why",
    "code": "internal_error",
}
OF_REGISTRY = {RegistryError, RegistryUnusable, RegistryUnavailable}
OF_BODY = {BodyTooLarge, UnsupportedMediaType, InvalidInstance, RegistryFull} | OF_REGISTRY
RETRY_AFTER: Schema = {
    "description": "Seconds after which to try again.",
    "schema": {"type": "integer"},
    "example": 5,
}


def _time_header(description: str) -> Schema:
    schema = {"type": "string", "format": "date-time"}
    return {"description": description, "schema": schema, "example": "2026-01-02T03:04:05.678901+00:00"}


REMARKS = {
    "X-Ctl-Stale-Since": _time_header("The database is away: what changed since then may be missing."),
    "X-Ctl-Held-Until": _time_header(
        "The registry itself was away: until then some are listed as they were before, though they are silent."
    ),
    "X-Ctl-Time": _time_header("The database's time, where this controller's clock differs: ages count against it."),
}


def query(name: str, schema: Schema, *, required: bool = False) -> Schema:
    """A parameter of a query; `schema` holds its description and examples too."""
    facts = {key: value for key, value in schema.items() if key not in {"description", "examples"}}
    about = {"name": name, "in": "query", "required": required, "description": schema["description"]}
    return about | {"schema": facts, "example": schema["examples"][0]}


def _switch(name: str, description: str) -> Schema:
    text = f"{description} In any case; also 1/0, yes/no, on/off; empty means false."
    return query(name, {"type": "boolean", "default": False, "description": text, "examples": [True]})


def answer(description: str, schema: Schema, example: Any, headers: Schema | None = None) -> Schema:
    """What is answered with 200."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content} | ({"headers": headers} if headers else {})


def responses(good: Schema, possible: Collection[type[CtlError]]) -> dict[int | str, Schema]:
    """The answer, and by status the problems that there may be instead."""
    told: dict[int | str, Schema] = {200: good}
    shown = [problem for problem in map(_problem, EXAMPLES) if problem["code"] in {each.code for each in possible}]
    for status, same in groupby(sorted([*shown, INTERNAL_ERROR], key=_status), _status):
        examples = {each["code"]: {"summary": each["title"], "value": each} for each in same}
        told[status] = {
            "description": " or ".join(f"{each['summary']} (`{code}`)" for code, each in examples.items()) + ".",
            "content": {problems.MEDIA_TYPE: {"schema": PROBLEM, "examples": examples}},
        }
    told[503]["headers"] = {"Retry-After": RETRY_AFTER}
    return told


def _problem(error: CtlError) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(bytes(problems.of_error(error).body))
    return problem


def _status(problem: dict[str, Any]) -> int:
    status: int = problem["status"]
    return status


BODY: Schema = {"requestBody": {"required": True, "content": {"application/json": {"schema": REGISTRATION}}}}
VERDICT: Schema = {"type": "boolean"}
EVERY_INSTANCE: Schema = {"title": "Instances", "type": "array", "items": INSTANCE}
LISTED = {name: field["examples"][0] for name, field in INSTANCE["properties"].items()}

OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/health"): {
        "summary": "Ask how the controller is",
        "responses": responses(answer("It can answer lists.", HEALTH, {"status": "ok"}), {RegistryUnavailable}),
    },
    ("POST", "/controller/models"): {
        "summary": "Register",
        "openapi_extra": BODY,
        "responses": responses(answer("Stored.", VERDICT | {"const": True}, True), OF_BODY),
    },
    ("POST", "/controller/heartbeat"): {
        "summary": "Heartbeat",
        "openapi_extra": BODY,
        "responses": responses(answer("Whether it is stored; false: deregistered.", VERDICT, True), OF_BODY),
    },
    ("DELETE", "/controller/models"): {
        "summary": "Deregister",
        "openapi_extra": {
            "parameters": [
                *(query(name, field, required=True) for name, field in IDENTITY.items()),
                _switch("remove_from_registry", "Whether it leaves every list."),
            ]
        },
        "responses": responses(answer("Whether it was ever known.", VERDICT, True), {InvalidInstance} | OF_REGISTRY),
    },
    ("GET", "/controller/models"): {
        "summary": "List",
        "openapi_extra": {
            "parameters": [
                query(
                    "model_name",
                    {
                        "type": "string",
                        "description": "Only instances of exactly this `NAME@TYPE`; empty means all.",
                        "examples": ["qwen3@llm"],
                    },
                ),
                _switch("healthy_only", "Only what can be routed to: healthy, not drained, not deregistered."),
            ]
        },
        "responses": responses(
            answer("In order of model_name, host and port.", EVERY_INSTANCE, [LISTED], REMARKS),
            {InvalidInstance} | OF_REGISTRY,
        ),
    },
}
"""By method and path, as `wire` has them: what FastAPI's `add_api_route` takes."""
