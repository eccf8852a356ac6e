"""Every answer of the API in a test is validated against the OpenAPI document."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson
from jsonschema import Draft202012Validator

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import ControllerApp, create_app
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

MAX_ITEMS = 50
"""The first items of a longer array are validated; the others have the same source."""
PROBLEM = "application/problem+json"
OURS = ("/api/", "/livez", "/readyz")
CHANGE = b"event: change\n"


class ValidatingApp:
    """ASGI middleware that collects what is wrong with answers of /api and of probes. Answers go through unchanged."""

    def __init__(self, app: FastAPI) -> None:
        self.violations: list[str] = []
        self._app = app
        self._is_ours = isinstance(app, ControllerApp)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].replace("//api/", "/api/") if scope["type"] == "http" else ""
        if not (self._is_ours and path.startswith(OURS)):
            await self._app(scope, receive, send)
            return
        answer: dict[str, Any] = {}
        body: list[bytes] = []

        async def recording(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                answer.update(message)
            elif message["type"] == "http.response.body" and len(body) < MAX_ITEMS:
                body.append(message.get("body", b""))

        await self._app(scope, receive, recording)
        if answer and scope["method"] != "HEAD":
            try:
                self._validate(f"{scope['method']} {path}", answer["status"], dict(answer["headers"]), b"".join(body))
            except Exception as error:  # noqa: BLE001 - reported by the test
                self.violations.append(f"{scope['method']} {path} could not be validated: {error!r}")

    def _validate(self, operation: str, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        media_type = headers.get(b"content-type", b"").decode().partition(";")[0]
        for violation in violations(operation, status, media_type, body):
            self.violations.append(f"{operation} answered {status} {body[:500]!r}: {violation}")
        response = _document().get(operation, {}).get(str(status), {})
        for name in headers:
            if name.startswith(b"x-ctl-") and name.decode() not in map(str.lower, response.get("headers", {})):
                self.violations.append(f"{operation} answered {status} with the undocumented header {name.decode()}")


def violations(operation: str, status: int, media_type: str, body: bytes) -> Iterator[str]:
    """What is wrong with an answer; `operation` is as in `GET /api/health`."""
    responses = _document().get(operation)
    if responses is None or status == 405:  # a path or a method that the API does not have
        yield from _errors(_any_problem(), orjson.loads(body))
    elif (content := responses.get(str(status), {}).get("content", {}).get(media_type)) is None:
        yield f"{media_type} with the status {status} is not documented"
    elif media_type == "text/event-stream":
        page = _document()["GET /api/v1/events"]["200"]["content"]["application/json"]["schema"]
        for message in body.split(b"\n\n")[:MAX_ITEMS]:
            if message.startswith(CHANGE) and b"\ndata: " in message:
                event = orjson.loads(message.partition(b"\ndata: ")[2])
                yield from _errors(page["properties"]["events"]["items"], event)
    else:
        yield from _errors(content["schema"], body.decode() if media_type == "text/plain" else orjson.loads(body))


def _errors(schema: dict[str, Any], instance: Any) -> Iterator[str]:
    for error in Draft202012Validator(schema).iter_errors(_shortened(instance)):
        yield f"{error.json_path}: {error.message}"


def _shortened(instance: Any) -> Any:
    if isinstance(instance, list):
        return instance[:MAX_ITEMS]
    if isinstance(instance, dict):
        return {name: _shortened(value) for name, value in instance.items()}
    return instance


@cache
def _document() -> dict[str, dict[str, Any]]:
    """The responses of each operation; no object may have a property that is not documented."""
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    paths = deepcopy(create_app(ControllerSettings(), registry).openapi()["paths"])
    _forbid_other_properties(paths)
    return {
        f"{method.upper()} {path}": operation["responses"]
        for path, methods in paths.items()
        for method, operation in methods.items()
    }


def _forbid_other_properties(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            node["additionalProperties"] = False
        for child in node.values():
            _forbid_other_properties(child)
    elif isinstance(node, list):
        for child in node:
            _forbid_other_properties(child)


@cache
def _any_problem() -> dict[str, Any]:
    schema: dict[str, Any] = _document()["GET /api/health"]["503"]["content"][PROBLEM]["schema"]
    return schema
