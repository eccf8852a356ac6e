"""The short cut around the routing of an application."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from fastapi.responses import Response

from dbgpt_ctl.controller.http.dispatch import ExactDispatch
from dbgpt_ctl.errors import InvalidInstance

if TYPE_CHECKING:
    from fastapi import Request


async def endpoint(request: Request) -> Response:
    if request.url.query:
        raise InvalidInstance("port", "port is missing")
    return Response(b"from the endpoint")


async def application(scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": scope["type"], "body": b"from the application"})


def call(method: str, path: str, *, kind: str = "http", query: bytes = b"") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": kind, "method": method, "path": path, "query_string": query, "headers": [], "scheme": "http"}
    asyncio.run(ExactDispatch(application, {("POST", "/api/beat"): endpoint})(scope, receive, send))
    return sent


def test_an_exact_method_and_path_is_the_endpoints() -> None:
    assert call("POST", "/api/beat")[1]["body"] == b"from the endpoint"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/api/beat", "http"),
        ("POST", "/api/beat/", "http"),
        ("POST", "/API/beat", "http"),
        ("POST", "/api/beat", "websocket"),
    ],
)
def test_everything_else_is_the_applications(method: str, path: str, kind: str) -> None:
    assert call(method, path, kind=kind) == [{"type": kind, "body": b"from the application"}]


def test_an_error_becomes_the_same_problem_as_in_the_application() -> None:
    start, body = call("POST", "/api/beat", query=b"x=1")
    assert start["status"] == 422
    assert orjson.loads(body["body"])["field"] == "port"
