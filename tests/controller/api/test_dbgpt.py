"""The wire, byte for byte, as stock clients send and take it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.support.clock import ManualClock

BODY_0_8 = (
    '{"model_name":"qwen@llm","host":"10.0.0.4","port":8001,"weight":1.0,"check_healthy":true,"healthy":false,"enabled":true,'
    '"prompt_template":null,"last_heartbeat":null,"remove_from_registry":false}'
)
BODY_0_5 = (
    '{"model_name":"qwen@llm","host":"10.0.0.4","port":8001,"weight":1.0,"check_healthy":true,"healthy":false,"enabled":true,'
    '"prompt_template":null,"last_heartbeat":null}'
)
DELETE_QUERY = (
    "model_name=qwen%40llm&host=10.0.0.4&port=8001&weight=1.0&check_healthy=true&healthy=false&enabled=true"
    "&prompt_template=&last_heartbeat=2026-11-24+12%3A09%3A01.343626&remove_from_registry="
)
LISTED = (
    b'[{"model_name":"qwen@llm","host":"10.0.0.4","port":8001,"weight":1.0,"check_healthy":true,"healthy":true,"enabled":true,'
    b'"prompt_template":null,"last_heartbeat":"2026-01-02T03:04:05.678901+00:00"}]'
)
JSON = {"content-type": "application/json"}
MODELS = "/api/controller/models"
HEARTBEAT = "/api/controller/heartbeat"


def post(http: httpx.Client, path: str, **fields: Any) -> httpx.Response:
    return http.post(path, json={"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001} | fields)


@pytest.mark.parametrize("body", [BODY_0_8, BODY_0_5])
@pytest.mark.parametrize("path", [MODELS, HEARTBEAT])
def test_register_and_heartbeat_answer_exactly_true(http: httpx.Client, path: str, body: str) -> None:
    reply = http.post(path, content=body, headers=JSON)
    assert (reply.status_code, reply.content, reply.headers["content-type"]) == (200, b"true", "application/json")
    assert http.get(MODELS).content == LISTED


def test_deregister_takes_the_query_that_dbgpt_model_stop_sends(http: httpx.Client) -> None:
    http.post(MODELS, content=BODY_0_8, headers=JSON)
    assert http.delete(f"{MODELS}?{DELETE_QUERY}").content == b"true"
    assert [each["healthy"] for each in http.get(MODELS).json()] == [False]
    assert http.post(HEARTBEAT, content=BODY_0_8, headers=JSON).content == b"false"


def test_deregister_with_remove_takes_it_out_of_the_list(http: httpx.Client) -> None:
    http.post(MODELS, content=BODY_0_8, headers=JSON)
    assert http.delete(f"{MODELS}?{DELETE_QUERY}True").content == b"true"
    assert http.get(MODELS).content == b"[]"


def test_deregister_of_what_never_was_is_false(http: httpx.Client) -> None:
    reply = http.delete(f"{MODELS}?{DELETE_QUERY}")
    assert (reply.status_code, reply.content) == (200, b"false")


LIST_QUERIES = [
    "",
    "model_name=",
    "model_name=&healthy_only=true",
    "model_name=qwen%40llm&healthy_only=false",
    "healthy_only=True",
    "healthy_only=",
    "model_name=+qwen%40llm",
]


@pytest.mark.parametrize("query", LIST_QUERIES)
def test_list_takes_every_query_that_clients_send(http: httpx.Client, query: str) -> None:
    http.post(MODELS, content=BODY_0_8, headers=JSON)
    reply = http.get(f"{MODELS}?{query}")
    assert (reply.status_code, reply.content) == (200, LISTED)


def test_list_of_a_name_without_a_type_is_empty_as_with_dbgpt(http: httpx.Client) -> None:
    http.post(MODELS, content=BODY_0_8, headers=JSON)
    assert http.get(MODELS, params={"model_name": "qwen"}).content == b"[]"


def test_names_come_back_as_sent(http: httpx.Client) -> None:
    for name in ("a b+c%d&e=f?g#h/i@llm", "模型é@text2vec"):
        post(http, MODELS, model_name=name)
        assert [each["model_name"] for each in http.get(MODELS, params={"model_name": name}).json()] == [name]


def test_a_drained_instance_is_healthy_and_not_routable(http: httpx.Client) -> None:
    post(http, MODELS, enabled=False)
    (listed,) = http.get(MODELS).json()
    assert (listed["healthy"], listed["enabled"]) == (True, False)
    assert http.get(MODELS, params={"healthy_only": "true"}).content == b"[]"


def test_a_drain_and_its_end_are_bytes_that_every_client_knows(http: httpx.Client, clock: ManualClock) -> None:
    """Whatever the state of the instance is."""
    post(http, MODELS)
    http.post("/api/v1/drain", json={"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001, "for_secs": 61})
    drained = LISTED.replace(b'"enabled":true', b'"enabled":false')
    assert http.get(MODELS).content == drained
    clock.advance(60.000001)
    assert http.get(MODELS).content == drained.replace(b'"healthy":true', b'"healthy":false')
    clock.advance(0.999999)
    assert http.get(MODELS).content == LISTED.replace(b'"healthy":true', b'"healthy":false')


def test_an_instance_expires_after_the_timeout(http: httpx.Client, clock: ManualClock) -> None:
    post(http, HEARTBEAT)
    clock.advance(60)
    assert [each["healthy"] for each in http.get(MODELS).json()] == [True]
    clock.advance(0.000001)
    assert [each["healthy"] for each in http.get(MODELS).json()] == [False]
    assert http.get(MODELS, params={"healthy_only": "true"}).content == b"[]"
    post(http, HEARTBEAT)
    assert [each["healthy"] for each in http.get(MODELS).json()] == [True]


def test_a_full_registry_refuses_newcomers_and_takes_beats(http: httpx.Client) -> None:
    for port in (1, 2, 3):
        assert post(http, MODELS, port=port).status_code == 200
    for path in (MODELS, HEARTBEAT):
        refused = post(http, path, port=4)
        assert (refused.status_code, refused.json()["code"]) == (429, "registry_full")
        assert post(http, path, port=3).content == b"true"
    assert len(http.get(MODELS).json()) == 3


@pytest.mark.parametrize(
    ("field", "sent", "stored"),
    [
        ("port", "8001", 8001),
        ("port", 8001.0, 8001),
        ("weight", None, 1.0),
        ("weight", "0.5", 0.5),
        ("enabled", None, True),
        ("enabled", "off", False),
        ("check_healthy", 0, False),
        ("check_healthy", "Yes", True),
        ("prompt_template", "", None),
        ("prompt_template", "vicuna", "vicuna"),
        ("host", "  10.0.0.4 ", "10.0.0.4"),
        ("host", "[::1]", "[::1]"),
        ("host", "fe80::1", "[fe80::1]"),
        ("weight", -1, -1.0),
        ("model_name", " qwen@llm\n", "qwen@llm"),
    ],
)
def test_fields_are_taken_as_leniently_as_dbgpt_does(http: httpx.Client, field: str, sent: Any, stored: Any) -> None:
    assert post(http, MODELS, **{field: sent}).content == b"true"
    assert [each[field] for each in http.get(MODELS).json()] == [stored]


def test_unknown_keys_are_ignored(http: httpx.Client) -> None:
    assert post(http, MODELS, replicas=3, healthy=True, last_heartbeat="yesterday").content == b"true"
    assert http.get(MODELS).content == LISTED


def test_a_double_slash_is_answered_without_a_redirect(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"GET //api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        reply = sock.makefile("rb").read()
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b'{"status":"ok"}')


def test_health_is_exactly_ok(http: httpx.Client) -> None:
    reply = http.get("/api/health")
    assert (reply.status_code, reply.content) == (200, b'{"status":"ok"}')


def test_every_answer_tells_its_time(http: httpx.Client) -> None:
    assert "date" in http.get(MODELS).headers


def test_a_list_is_json_that_stock_clients_parse(http: httpx.Client) -> None:
    post(http, MODELS, weight=0.1, prompt_template="ü")
    assert [set(each) for each in json.loads(http.get(MODELS).content)] == [
        {
            "model_name",
            "host",
            "port",
            "weight",
            "check_healthy",
            "healthy",
            "enabled",
            "prompt_template",
            "last_heartbeat",
        }
    ]
