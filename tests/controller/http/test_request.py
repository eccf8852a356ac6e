"""Parsing of requests: what is refused is a problem and stores nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import Request

from dbgpt_ctl.auth.tokens import Reason, Role, Token
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.api.commands import called_url
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.http.callers import IDENTITY, Unproven
from dbgpt_ctl.controller.http.request import MAX_BODY_BYTES, caller
from dbgpt_ctl.domain.events import Actor, ActorKind
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.addresses import parse_address
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator


TOKEN = Token("gpu", Role.WORKER)
GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
JSON = "application/json"
MODELS = "/api/controller/models"
HEARTBEAT = "/api/controller/heartbeat"


def changed(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def without(field: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != field}).encode()


BAD_BODIES = {
    "empty": b"",
    "not JSON": b"model_name=qwen@llm",
    "cut short": changed()[:-1],
    "not UTF-8": b'{"model_name":"\xff@llm"}',
    "an array": b"[]",
    "a string": b'"qwen@llm"',
    "null": b"null",
    "deeply nested": b"[" * 60_000,
    "model_name missing": without("model_name"),
    "model_name null": changed(model_name=None),
    "model_name a number": changed(model_name=7),
    "model_name empty": changed(model_name="  "),
    "model_name without type": changed(model_name="qwen"),
    "model_name with an empty type": changed(model_name="qwen@"),
    "model_name with an empty name": changed(model_name="@llm"),
    "model_name with two @": changed(model_name="a@b@llm"),
    "model_name too long": changed(model_name="q" * 125 + "@llm"),
    "model_name with a newline": changed(model_name="q\nq@llm"),
    "model_name with an escape": changed(model_name="\x1b[31mq@llm"),
    "model_name with NUL": changed(model_name="q\x00@llm"),
    "model_name with a bidirectional mark": changed(model_name="q\u202e@llm"),
    "model_name a lone surrogate": b'{"model_name":"\\ud800@llm","host":"h","port":1}',
    "host missing": without("host"),
    "host empty": changed(host=""),
    "host a URL": changed(host="http://10.0.0.4"),
    "host with a space": changed(host="10.0.0.4 10.0.0.5"),
    "host a list": changed(host=["10.0.0.4"]),
    "host too long": changed(host="h" * 129),
    "port missing": without("port"),
    "port 0": changed(port=0),
    "port 65536": changed(port=65536),
    "port negative": changed(port=-1),
    "port a fraction": changed(port=80.5),
    "port a word": changed(port="http"),
    "port true": changed(port=True),
    "port huge": changed(port=10**300),
    "port of digits without end": changed(port="9" * 5000),
    "port of foreign digits": changed(port="٨٠"),
    "weight NaN": changed(weight=float("nan")),
    "weight the word NaN": changed(weight="NaN"),
    "weight infinite": changed(weight="-inf"),
    "weight an object": changed(weight={}),
    "weight true": changed(weight=True),
    "weight too large": changed(weight="1e999"),
    "enabled a word": changed(enabled="maybe"),
    "enabled 2": changed(enabled=2),
    "check_healthy a list": changed(check_healthy=[True]),
    "prompt_template a number": changed(prompt_template=3),
    "prompt_template too long": changed(prompt_template="p" * 129),
    "prompt_template with an escape": changed(prompt_template="\x1b]0;x\x07"),
}

BAD_QUERIES = {
    "list: healthy_only a word": ("GET", "healthy_only=perhaps"),
    "list: name too long": ("GET", "model_name=" + "q" * 129),
    "list: name with a control character": ("GET", "model_name=q%1b%40llm"),
    "deregister: nothing": ("DELETE", ""),
    "deregister: no host": ("DELETE", "model_name=qwen%40llm&port=8001"),
    "deregister: no port": ("DELETE", "model_name=qwen%40llm&host=10.0.0.4"),
    "deregister: empty port": ("DELETE", "model_name=qwen%40llm&host=10.0.0.4&port="),
    "deregister: port 65536": ("DELETE", "model_name=qwen%40llm&host=10.0.0.4&port=65536"),
    "deregister: name without type": ("DELETE", "model_name=qwen&host=10.0.0.4&port=8001"),
    "deregister: broken UTF-8": ("DELETE", "model_name=%ff%00@llm&host=10.0.0.4&port=8001"),
    "deregister: remove a word": ("DELETE", "model_name=qwen%40llm&host=10.0.0.4&port=8001&remove_from_registry=ok"),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """One controller for all of these: nothing is stored of a refused request, which each test makes sure of."""
    with running_controller(EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT)) as url:
        yield url


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.fixture
def cleaned(http: httpx.Client) -> Iterator[None]:
    """For tests of what is taken."""
    yield
    assert http.delete(MODELS, params={**GOOD, "remove_from_registry": "true"}).content == b"true"


def assert_refused(reply: httpx.Response, http: httpx.Client, *, statuses: tuple[int, ...] = (422,)) -> dict[str, Any]:
    problem: dict[str, Any] = reply.json()
    assert reply.status_code in statuses, problem
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem.keys() >= {"type", "title", "status", "detail", "code"}
    assert problem["status"] == reply.status_code
    assert "\n" not in problem["detail"]
    assert len(problem["detail"]) < 300
    assert http.get(MODELS).content == b"[]"
    return problem


@pytest.mark.parametrize("path", [MODELS, HEARTBEAT])
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body(http: httpx.Client, path: str, body: bytes) -> None:
    assert_refused(http.post(path, content=body, headers={"content-type": JSON}), http)


@pytest.mark.parametrize(("method", "query"), BAD_QUERIES.values(), ids=BAD_QUERIES.keys())
def test_a_bad_query(http: httpx.Client, method: str, query: str) -> None:
    assert_refused(http.request(method, f"{MODELS}?{query}"), http)


def test_the_problem_names_the_field_and_the_value(http: httpx.Client) -> None:
    reply = http.post(MODELS, content=changed(port=65536), headers={"content-type": JSON})
    assert reply.json() == {
        "type": "about:blank",
        "title": "Invalid instance",
        "status": 422,
        "detail": "port 65536 is not a whole number from 1 to 65535",
        "code": "invalid_instance",
        "field": "port",
    }


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "",
        None,
    ],
)
def test_a_body_that_is_not_declared_as_json(http: httpx.Client, media_type: str | None) -> None:
    headers = {} if media_type is None else {"content-type": media_type}
    assert (
        assert_refused(http.post(MODELS, content=changed(), headers=headers), http, statuses=(415,))["code"]
        == "unsupported_media_type"
    )


@pytest.mark.usefixtures("cleaned")
@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"]
)
def test_a_body_that_is_declared_as_some_json(http: httpx.Client, media_type: str) -> None:
    assert http.post(MODELS, content=changed(), headers={"content-type": media_type}).content == b"true"


@pytest.mark.usefixtures("cleaned")
def test_a_body_of_the_most_bytes_is_taken_and_one_more_is_refused(http: httpx.Client) -> None:
    body = changed().ljust(MAX_BODY_BYTES + 1)
    assert (
        assert_refused(http.post(MODELS, content=body, headers={"content-type": JSON}), http, statuses=(413,))["code"]
        == "body_too_large"
    )
    assert http.post(MODELS, content=body[:-1], headers={"content-type": JSON}).content == b"true"


def test_a_chunked_body_is_counted_too(http: httpx.Client) -> None:
    chunks = iter([changed(), b" " * MAX_BODY_BYTES])
    assert_refused(http.post(MODELS, content=chunks, headers={"content-type": JSON}), http, statuses=(413,))


def test_a_body_that_is_declared_too_large_is_not_waited_for(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(
            b"POST /api/controller/models HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n"
        )
        assert sock.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/nope", 404, "not_found"),
        ("GET", "/api/health/", 404, "not_found"),
        ("PUT", MODELS, 405, "method_not_allowed"),
        ("GET", HEARTBEAT, 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    assert assert_refused(http.request(method, path), http, statuses=(status,))["code"] == code


METADATA = ["169.254.169.254", "0xa9fea9fe", "[fd00:ec2::254]", "metadata.google.internal."]
API = "/api/v1"


@pytest.mark.parametrize("host", METADATA)
@pytest.mark.parametrize("path", [MODELS, HEARTBEAT, f"{API}/register"])
def test_a_metadata_address_is_not_registered(http: httpx.Client, path: str, host: str) -> None:
    answer = http.post(path, json=GOOD | {"host": host})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (422, "invalid_instance", "host")
    assert "never registered" in problem["detail"]
    assert "worker_register_host" in problem["detail"]
    assert http.get(MODELS).json() == []


def test_an_instance_with_a_metadata_address_that_is_stored_already_can_be_seen_and_removed() -> None:
    """An earlier release registered it."""
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT, max_instances=3)
    stored = GOOD | {"host": METADATA[0]}
    asyncio.run(registry.register(parse_registration(stored), actor=Actor(ActorKind.WORKER)))
    with running_controller(registry) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert [each["host"] for each in http.get(MODELS).json()] == [METADATA[0]]
        assert [each["host"] for each in http.get(f"{API}/instances").json()["instances"]] == [METADATA[0]]
        assert http.get(f"{API}/instance", params=stored).json()["instance"]["host"] == METADATA[0]
        assert http.post(f"{API}/drain", json=stored).status_code == 200
        assert http.post(f"{API}/undrain", json=stored).status_code == 200
        assert http.post(HEARTBEAT, json=stored).status_code == 422
        assert http.delete(MODELS, params=stored | {"remove_from_registry": "true"}).content == b"true"
        assert http.get(MODELS).json() == []


@pytest.mark.parametrize(
    ("path", "further"), [(MODELS, {}), (HEARTBEAT, {}), (f"{API}/register", {"drain": {"reason": "new"}})]
)
def test_loopback_hosts_are_refused_only_where_the_setting_says_so(
    http: httpx.Client, path: str, further: dict[str, Any]
) -> None:
    sent = GOOD | further
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT, max_instances=3)
    denies = create_app(ControllerSettings(deny_loopback_hosts=True), registry)
    with running_app(denies) as url, httpx.Client(base_url=url, trust_env=False) as denying:
        for host in ("127.0.0.1", "127.1", "[::1]", "localhost", "gpu.localhost"):
            answer = denying.post(path, json=sent | {"host": host})
            assert (answer.status_code, answer.json()["field"]) == (422, "host")
            assert "worker_register_host" in answer.json()["detail"]
        assert denying.get(MODELS).json() == []
        assert denying.post(path, json=sent).status_code == 200
    assert http.post(path, json=sent | {"host": "127.0.0.1"}).status_code == 200


@pytest.mark.parametrize("claims", [False, True])
@pytest.mark.parametrize(
    ("role", "kind", "claimed"),
    [
        (None, ActorKind.WORKER, ActorKind.OPERATOR),
        (Role.OPERATOR, ActorKind.WORKER, ActorKind.OPERATOR),
        (Role.WORKER, ActorKind.WORKER, ActorKind.WORKER),
        (Role.READER, ActorKind.WORKER, ActorKind.WORKER),
        (Role.METRICS, ActorKind.WORKER, ActorKind.WORKER),
    ],
)
def test_a_claim_never_makes_an_operator_of_another_token(
    role: Role | None, kind: ActorKind, claimed: ActorKind, *, claims: bool
) -> None:
    """On the endpoints of DB-GPT, without a token as with one; on those of operators the claim changes nothing."""
    scope: dict[str, Any] = {
        "type": "http",
        "client": ("192.0.2.1", 4711),
        "headers": [(b"x-ctl-actor", b"operator")] if claims else [],
    }
    name = None
    if role is not None:
        name = "anna"
        scope[IDENTITY] = SimpleNamespace(name=name, role=role)
    assert caller(Request(scope)) == Actor(claimed if claims else kind, "192.0.2.1", name)
    assert caller(Request(scope), ActorKind.OPERATOR) == Actor(claimed, "192.0.2.1", name)


def test_the_sender_of_a_request_without_a_valid_token_is_what_it_claims() -> None:
    """In log mode, which serves it."""
    scope: dict[str, Any] = {
        "type": "http",
        "client": None,
        "headers": [],
        IDENTITY: Unproven(print, Reason.REVOKED, TOKEN),
    }
    assert caller(Request(scope), ActorKind.OPERATOR) == Actor(ActorKind.OPERATOR)


def test_log_mode_knows_a_valid_token_whose_role_is_not_enough() -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "client": None,
        "headers": [],
        IDENTITY: Unproven(print, Reason.ROLE, TOKEN),
    }
    assert caller(Request(scope), ActorKind.OPERATOR) == Actor(ActorKind.WORKER, None, "gpu")


def request(host: bytes | None, **scope: Any) -> Request:
    headers = [] if host is None else [(b"host", host)]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, **scope})


@pytest.mark.parametrize(
    ("host", "scope", "url"),
    [
        (b"ctl.example:8000", {}, "http://ctl.example:8000"),
        (b"ctl.example", {"scheme": "https"}, "https://ctl.example"),
        (b"[::1]:8000", {"scheme": "http"}, "http://[::1]:8000"),
        (b"ctl.example", {"root_path": "/cluster/"}, "http://ctl.example/cluster"),
        (None, {"server": ("10.0.0.2", 8000)}, "http://10.0.0.2:8000"),
        (None, {"server": ("::1", 8000), "scheme": "https"}, "https://[::1]:8000"),
        (None, {"server": ("/run/ctl.sock", None)}, "http://localhost"),
        (None, {}, "http://localhost"),
    ],
)
def test_scheme_and_host(host: bytes | None, scope: dict[str, Any], url: str) -> None:
    assert called_url(request(host, **scope)) == url


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"[::",
        b"[1]",
        b"a b",
        b"a'$(id)",
        b"\xff\xbd",
        b"u:p@h",
        b"h/path",
        b"h:99999",
        b"h#",
        b"dctl_" + b"a" * 43,
    ],
)
def test_a_host_that_is_none_is_not_shown(host: bytes) -> None:
    """A foreign application may allow any."""
    url = called_url(request(host, server=("10.0.0.2", 8000)))
    assert url == "http://10.0.0.2:8000"
    assert parse_address(url).url == url
