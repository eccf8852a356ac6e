"""The query parameters of /api/v1: unknown ones are refused, and known ones are documented and announced."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from dbgpt_ctl.controller.api.parameters import newer_parameters
from dbgpt_ctl.controller.http.callers import RouteAccess
from dbgpt_ctl.controller.http.routes import Route
from dbgpt_ctl.wire.events import Events
from dbgpt_ctl.wire.fields import doc
from dbgpt_ctl.wire.queries import NEWER, SINCE, EventsQuery
from tests.controller.api.test_openapi import DOCUMENT
from tests.support.process import ROOT

if TYPE_CHECKING:
    import httpx
    from fastapi.responses import Response
    from starlette.requests import Request

OPERATIONS = [
    pytest.param(method, path, operation, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    if path.startswith("/api/v1/")
    for method, operation in methods.items()
]
KEY: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


def declared(operation: dict[str, Any]) -> list[str]:
    return [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(
    http: httpx.Client, method: str, path: str, operation: dict[str, Any]
) -> None:
    query = dict.fromkeys(declared(operation), "") | {"odd": "1"}
    for called in (path, f"/{path}"):
        answer = http.request(method, f"{str(http.base_url).rstrip('/')}{called}", params=query, json=KEY)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "invalid_instance", "odd")
        assert all(name in answer.json()["detail"] for name in declared(operation))


def test_a_misspelt_filter_does_not_select_everything(http: httpx.Client) -> None:
    answer = http.get("/api/v1/instances", params={"model": "qwen@llm"})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("; did you mean model_name?")


def test_the_endpoints_of_dbgpt_ignore_what_they_do_not_know(http: httpx.Client) -> None:
    assert http.post("/api/controller/models?odd=1", json=KEY | {"odd": 1}).json() is True
    assert len(http.get("/api/controller/models", params={"model": "none@llm"}).json()) == 1
    assert http.get("/api/health", params={"odd": "1"}).json() == {"status": "ok"}
    assert http.delete("/api/controller/models", params=KEY | {"odd": "1"}).json() is True


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_the_page_of_the_api_names_all_parameters(method: str, path: str, operation: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    (request,) = re.findall(rf"^\| `{method.upper()} {path}` \| (.*?)\|", page, re.MULTILINE)
    documented = re.findall(r"`(\w+)`", request) if request.startswith("query:") else []
    assert sorted(documented) == sorted(declared(operation))


def test_the_status_announces_what_is_newer_than_the_first_release(http: httpx.Client) -> None:
    newer = {
        path: [each["name"] for each in operation.get("parameters", ()) if SINCE in each["schema"]]
        for path, methods in DOCUMENT["paths"].items()
        for operation in methods.values()
    }
    announced = http.get("/api/v1/status").json()["parameters"]
    assert announced == {path: names for path, names in newer.items() if names}


def test_a_parameter_is_announced_by_its_path() -> None:
    async def endpoint(request: Request) -> Response:
        raise NotImplementedError

    query: Any = msgspec.defstruct("Query", [("actor", Annotated[str, doc("By whom.", "anna", schema=NEWER)])])
    routes = [
        Route("GET", f"/v1/{name}", endpoint, RouteAccess.READER, Events, query)
        for name, query in (("one", query), ("two", EventsQuery), ("three", None))
    ]
    assert newer_parameters(routes)["/api/v1/one"] == ["actor"]
    assert "/api/v1/three" not in newer_parameters(routes)
