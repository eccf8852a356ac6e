"""What the OpenAPI document says of /api/v1; see `openapi`."""

from __future__ import annotations

import json
from typing import Any

from dbgpt_ctl.controller.api import schemas_v1 as shapes
from dbgpt_ctl.controller.api.openapi import OF_BODY, OF_REGISTRY, answer, query, responses
from dbgpt_ctl.controller.api.params import DEFAULT_LIMIT, MAX_EVENT_ID, MAX_LIMIT
from dbgpt_ctl.controller.api.problems import UnknownInstance
from dbgpt_ctl.controller.api.schemas import IDENTITY, Schema
from dbgpt_ctl.controller.watch.sse import EventStream
from dbgpt_ctl.errors import InvalidInstance, RegistryFull, TooManyWatchers, VerbNotSupported

TEXT: Schema = {"type": "string"}
OF_QUERY = {InvalidInstance, VerbNotSupported} | OF_REGISTRY
OF_VERB = (OF_BODY | {UnknownInstance, VerbNotSupported}) - {RegistryFull}
CURSOR = f"{shapes.STREAM}.41"
EXAMPLE_STREAM = (
    f'event: ready\nid: {CURSOR}\ndata: {{"cursor":"{CURSOR}"}}\n\n'
    f"event: change\nid: {shapes.STREAM}.42\ndata: {json.dumps(shapes.EVENT['examples'][0])}\n\n"
)


def _filter(name: str, description: str, schema: Schema | None = None) -> Schema:
    examples = IDENTITY[name]["examples"] if name in IDENTITY else (schema or {}).get("examples", ["healthy"])
    return query(name, {**(schema or TEXT), "description": f"{description} Empty means all.", "examples": examples})


BY_MODEL = _filter("model_name", "Only instances of exactly this `NAME@TYPE`.")
BY_HOST = _filter("host", "Only instances at this host, exactly as it is registered.")
BY_PORT = _filter("port", "Only instances at this port.", {"type": "integer", "minimum": 1, "maximum": 65535})
BY_STATE = _filter("state", "Only instances in this state.", {"type": "string", "enum": shapes.STATES})
EVENT_ID: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_EVENT_ID}
LAST_EVENT_ID: Schema = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last id that was seen: changes after it are sent. Goes before `cursor`.",
    "schema": {"type": "string", "pattern": r"^[!-~]{1,64}\.[0-9]{1,18}$"},
    "example": CURSOR,
}


def _whole(description: str, schema: Schema) -> Schema:
    return answer(description, schema, schema["examples"][0])


def _body(schema: Schema) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


STREAM: Schema = {
    "description": "Server-sent events, for as long as both sides like. `ready` comes first; `change` holds an EVENT, "
    "and its id is the cursor after it; `reset`: changes are missing here, list again; `dropped` (this reader is too "
    "slow) and `leaving` (the controller ends) are the last. Comments are signs of life.",
    "content": {"text/event-stream": {"schema": TEXT, "example": EXAMPLE_STREAM}},
}

OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "/v1/instances"): {
        "summary": "List with all facts",
        "openapi_extra": {"parameters": [BY_MODEL, BY_HOST, BY_STATE]},
        "responses": responses(_whole("The instances.", shapes.INSTANCES), OF_QUERY),
    },
    ("GET", "/v1/instance"): {
        "summary": "Get one",
        "openapi_extra": {"parameters": [query(name, field, required=True) for name, field in IDENTITY.items()]},
        "responses": responses(_whole("The instance.", shapes.ONE_INSTANCE), OF_QUERY | {UnknownInstance}),
    },
    ("POST", "/v1/drain"): {
        "summary": "Drain",
        "openapi_extra": _body(shapes.DRAIN),
        "responses": responses(_whole("Stored; the instance as it is now.", shapes.DRAINED), OF_VERB),
    },
    ("POST", "/v1/undrain"): {
        "summary": "Undrain",
        "openapi_extra": _body(shapes.UNDRAIN),
        "responses": responses(_whole("Stored; the instance as it is now.", shapes.DRAINED), OF_VERB),
    },
    ("POST", "/v1/prune"): {
        "summary": "Prune",
        "openapi_extra": _body(shapes.PRUNE),
        "responses": responses(_whole("What is forgotten, or would be.", shapes.PRUNED), OF_VERB - {UnknownInstance}),
    },
    ("GET", "/v1/events"): {
        "summary": "Events",
        "openapi_extra": {
            "parameters": [
                query("after", EVENT_ID | {"description": "Only those with a higher id.", "examples": [41]}),
                query(
                    "since",
                    TEXT
                    | {
                        "format": "date-time",
                        "description": "Only those from this time on, with an offset.",
                        "examples": [shapes.TIME],
                    },
                ),
                BY_MODEL,
                BY_HOST,
                BY_PORT,
                query(
                    "limit",
                    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
                    | {"description": "No more than so many.", "examples": [100]},
                ),
            ]
        },
        "responses": responses(_whole("The events.", shapes.EVENTS), OF_QUERY),
    },
    ("GET", "/v1/status"): {
        "summary": "Status",
        "responses": responses(_whole("How it is, also while the registry is away.", shapes.STATUS), OF_REGISTRY),
    },
    ("GET", "/v1/watch"): {
        "summary": "Watch",
        "response_class": EventStream,
        "openapi_extra": {
            "parameters": [
                BY_MODEL,
                BY_HOST,
                query("cursor", TEXT | {"description": "As the header `Last-Event-ID`.", "examples": [CURSOR]}),
                LAST_EVENT_ID,
            ]
        },
        "responses": responses(STREAM, OF_QUERY | {TooManyWatchers}),
    },
}
"""By method and path, as `api` has them."""
