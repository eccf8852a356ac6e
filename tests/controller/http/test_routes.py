"""HEAD answers as GET does, without a body, and a method that a path lacks is refused with those that it has."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
ONE = "model_name=qwen%40llm&host=10.0.0.4&port=8001"
PATHS = [
    prefix + path
    for prefix in ("/api", "//api")
    for path in (
        "/health",
        "/controller/models",
        "/controller/models?healthy_only=perhaps",
        "/v1/instances",
        f"/v1/instance?{ONE}",
        "/v1/instance?model_name=none%40llm&host=a&port=1",
        "/v1/events?limit=0",
        "/v1/events",
        "/v1/status",
        "/v1/diagnosis",
        "/v1/settings",
        f"/v1/commands?{ONE}",
        "/v1/commands?model_name=none%40llm&host=a&port=1",
    )
]


@pytest.mark.parametrize("path", [*PATHS, "/docs", "/openapi.json"])
def test_head_has_the_status_and_headers_of_get(http: httpx.Client, url: str, path: str) -> None:
    http.post("/api/controller/models", json=GOOD)
    with_body, head = http.get(url + path), http.head(url + path)
    assert with_body.content
    assert (head.status_code, head.content) == (with_body.status_code, b"")
    same = [{name: each.headers[name] for name in each.headers if name != "date"} for each in (with_body, head)]
    assert same[0] == same[1]


def test_the_connection_of_a_head_serves_on(url: str) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        sock.sendall(b"HEAD /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        sock.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answers = sock.makefile("rb").read()
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b'{"status":"ok"}') == 1


@pytest.mark.parametrize("prefix", ["/api", "//api"])
def test_head_of_a_watch_opens_no_stream(http: httpx.Client, url: str, prefix: str) -> None:
    path = f"{url}{prefix}/v1/watch"
    with http.stream("GET", path) as watch:
        head = http.head(path)
        assert head.status_code == 200
        for name in ("content-type", "cache-control", "x-accel-buffering"):
            assert head.headers[name] == watch.headers[name]
        assert "content-length" not in head.headers
        assert http.get("/api/v1/status").json()["watchers"] == 1
    assert http.head(f"{path}?cursor=none").status_code == 422


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/health", "GET, HEAD"),
        ("/controller/models", "DELETE, GET, HEAD, POST"),
        ("/controller/heartbeat", "POST"),
        ("/v1/register", "POST"),
        ("/v1/drain", "POST"),
        ("/v1/watch", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "PATCH"])
def test_another_method_is_refused_with_the_methods_that_there_are(
    http: httpx.Client, url: str, method: str, path: str, allow: str
) -> None:
    for prefix in ("/api", "//api"):
        reply = http.request(method, url + prefix + path)
        assert (reply.status_code, reply.headers["allow"]) == (405, allow)
        assert reply.json()["code"] == "method_not_allowed"


def test_head_of_what_only_takes_post_is_refused(http: httpx.Client) -> None:
    reply = http.head("/api/controller/heartbeat")
    assert (reply.status_code, reply.headers["allow"], reply.content) == (405, "POST", b"")
