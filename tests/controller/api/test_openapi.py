"""The OpenAPI document is whole, and the answers are as it says."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.api import dbgpt
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.http.request import MAX_BODY_BYTES
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.api_document import violations
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.clock import ManualClock

MODELS = "/api/controller/models"
GOOD = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


def registry() -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60), max_instances=40)


DOCUMENT: dict[str, Any] = create_app(ControllerSettings(), registry()).openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
ENDING = SCHEMA.exclude(path="/api/v1/watch")
"""Answers that have an end; a watch has none: see test_watch."""
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


@pytest.fixture(scope="module")
def live() -> Iterator[str]:
    with running_controller(registry()) as url:
        yield url


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_the_document_is_valid_openapi_and_names_the_endpoints() -> None:
    SCHEMA.validate()
    assert {name for name, _ in OPERATIONS} == {
        "GET /api/health",
        "GET /livez",
        "GET /readyz",
        f"POST {MODELS}",
        "POST /api/controller/heartbeat",
        f"DELETE {MODELS}",
        f"GET {MODELS}",
        *(f"GET /api/v1/{noun}" for noun in ("instances", "instance", "events", "status", "auth", "watch")),
        *(f"GET /api/v1/{noun}" for noun in ("diagnosis", "settings", "commands")),
        *(f"POST /api/v1/{verb}" for verb in ("register", "drain", "undrain", "prune")),
        *(f"{method} /api/v1/session" for method in ("GET", "POST", "DELETE")),
        "GET /metrics",
    }


def test_it_is_served() -> None:
    with running_app(create_app(ControllerSettings(), registry())) as url:
        assert httpx.get(f"{url}/openapi.json", trust_env=False).json() == json.loads(json.dumps(DOCUMENT))


def fields(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of objects, at any depth."""
    for name, field in schema.get("properties", {}).items():
        yield f"{at}.{name}", field
        yield from fields(field, f"{at}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{at}[]")


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_everything_has_a_description_and_an_example(name: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    for parameter in operation.get("parameters", ()):
        assert parameter["description"], parameter
        assert "example" in parameter, parameter
    contents = dict(operation.get("requestBody", {}).get("content", {}))
    for status, response in operation["responses"].items():
        assert response["description"], status
        contents |= {f"{status} {media_type}": content for media_type, content in response["content"].items()}
        for header, field in response.get("headers", {}).items():
            assert field["description"], header
            assert "example" in field, header
    assert len(contents) >= 3
    for where, content in contents.items():
        assert content.get("examples") or "example" in content or content["schema"]["examples"], where
        for field, schema in fields(content["schema"]):
            assert schema["description"], (where, field)
            assert schema["examples"], (where, field)


@ENDING.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True)
def test_answers_are_as_the_document_says(case: schemathesis.Case[Any], live: str, session: requests.Session) -> None:
    case.call_and_validate(
        base_url=live,
        session=session,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
            unsupported_method,
        ],
    )


def conforms(path: str, reply: httpx.Response) -> None:
    """Raises where the reply is not what the document has for its status."""
    operation = SCHEMA[path][reply.request.method]
    assert str(reply.status_code) in DOCUMENT["paths"][path][reply.request.method.lower()]["responses"]
    operation.validate_response(reply)


def test_every_refusal_is_as_the_document_says(clock: ManualClock) -> None:
    small = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, max_instances=1)
    with running_controller(small) as url, httpx.Client(base_url=url, trust_env=False) as http:
        replies = [
            http.post(MODELS, json=GOOD),
            http.post(MODELS, json=GOOD | {"port": 2}),
            http.post(MODELS, json=GOOD | {"port": 0}),
            http.post(MODELS, content="x" * (MAX_BODY_BYTES + 1), headers={"Content-Type": "application/json"}),
            http.post(MODELS, content="x", headers={"Content-Type": "text/plain"}),
        ]
        for reply in replies:
            conforms(MODELS, reply)
        assert [reply.status_code for reply in replies] == [200, 429, 422, 413, 415]


class Away(EmbeddedModelRegistry):
    """Its database, so to say, went away after a list."""

    failure: Exception = RegistryUnavailable("db1:3306 does not answer")

    async def heartbeat(self, *_args: Any, **_kwargs: Any) -> bool:
        raise self.failure

    async def list(self, *_args: Any, **_kwargs: Any) -> Listing:
        now = SystemClock().now()
        return Listing((), stale_since=now, held_until=now, time=now)


def test_answers_while_the_registry_is_away_are_as_the_document_says(clock: ManualClock) -> None:
    away = Away(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(away) as url, httpx.Client(base_url=url, trust_env=False) as http:
        listed, unavailable = http.get(MODELS), http.post("/api/controller/heartbeat", json=GOOD)
        away.failure = ZeroDivisionError()
        failed = http.post("/api/controller/heartbeat", json=GOOD)
    conforms(MODELS, listed)
    conforms("/api/controller/heartbeat", unavailable)
    conforms("/api/controller/heartbeat", failed)
    assert {"x-ctl-stale-since", "x-ctl-held-until", "x-ctl-time"} <= set(listed.headers)
    assert (unavailable.status_code, unavailable.headers["retry-after"]) == (503, "5")
    assert failed.json() == {
        "type": "about:blank",
        "title": "Internal error",
        "status": failed.status_code,
        "detail": "the controller failed at this request; its log says why",
        "code": "internal_error",
    }
    assert failed.status_code == 500


def test_a_reply_that_is_not_as_the_document_says_is_noticed(live: str) -> None:
    health = httpx.get(f"{live}/api/health", trust_env=False)
    with pytest.raises(Failure, match='is not of type "array"'):
        conforms(MODELS, health)


def test_an_answer_that_is_not_documented_fails_the_test(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check that `running_app` makes of every answer."""
    monkeypatch.setattr(dbgpt, "wire_object", lambda entry: {"model_name": entry.instance.key.model_name, "new": 1})
    small = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, max_instances=1)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(running_controller(small))
        httpx.post(url + MODELS, json=GOOD, trust_env=False)
        httpx.get(url + MODELS, trust_env=False)
        with pytest.raises(AssertionError, match="'host' is a required property"):
            stack.close()


@pytest.mark.parametrize(
    ("operation", "status", "media_type", "body", "violation"),
    [
        ("GET /api/health", 200, "application/json", b'{"status":"ok","more":1}', "Additional properties"),
        ("GET /api/health", 503, "application/problem+json", b'{"status":503}', "'detail' is a required property"),
        ("GET /api/health", 418, "application/json", b"{}", "is not documented"),
        ("GET /api/nowhere", 404, "application/problem+json", b'{"status":404}', "'detail' is a required property"),
        (
            "GET /api/v1/watch",
            200,
            "text/event-stream",
            b'event: change\nid: s.1\ndata: {"id":1}',
            "'verb' is a required",
        ),
    ],
)
def test_what_is_not_documented_is_a_violation(
    operation: str, status: int, media_type: str, body: bytes, violation: str
) -> None:
    assert any(violation in found for found in violations(operation, status, media_type, body))


def test_it_says_which_role_each_operation_needs(live: str) -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {"basic": "basic", "bearer": "bearer"}
    roles = {name: [scheme["basic"] for scheme in operation["security"][:1]] for name, operation in OPERATIONS}
    assert roles["GET /api/health"] == roles["GET /readyz"] == []
    assert roles[f"GET {MODELS}"] == [["reader"]]
    assert roles[f"POST {MODELS}"] == [["worker"]]
    assert roles["POST /api/v1/drain"] == [["operator"]]
    for name, operation in OPERATIONS:
        is_refused = {"401", "403"} <= operation["responses"].keys()
        assert is_refused == (bool(operation["security"]) or name == "POST /api/v1/session"), name
    page = httpx.get(f"{live}/docs", trust_env=False).text
    assert page.count("Role: <code>operator</code>.") == str(roles).count("operator")
    assert "<b>bearer</b>: The token itself." in page
