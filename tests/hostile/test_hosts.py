"""Web pages that attack a controller through the browser of its operator: DNS rebinding, and requests across sites."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.process import ctl

if TYPE_CHECKING:
    from tests.hostile.conftest import Serve, Served

EVIL = "evil.example"
GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
MODELS, HEARTBEAT = "/api/controller/models", "/api/controller/heartbeat"
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", MODELS, {"json": GOOD | {"port": 8002}}),
    ("POST", HEARTBEAT, {"json": GOOD | {"port": 8003}}),
    ("DELETE", MODELS, {"params": GOOD}),
    ("POST", "/api/v1/drain", {"json": GOOD}),
    ("POST", "/api/v1/register", {"json": GOOD | {"drain": {}}}),
    ("POST", "/api/v1/undrain", {"json": GOOD}),
    ("POST", "/api/v1/prune", {"json": {"older_than_secs": 0}}),
]
READS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", path, {})
    for path in ("/api/health", MODELS, "/api/v1/instances", "/api/v1/events", "/api/v1/status", "/api/v1/watch")
]
PAGES: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", path, {}) for path in ("/docs", "/redoc", "/openapi.json", "/no/such/path")
]
FOREIGN = [
    {"Origin": f"http://{EVIL}"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
]


def call(controller: Served, method: str, path: str, headers: dict[str, str], **request: Any) -> httpx.Response:
    return httpx.request(method, controller.url + path, headers=headers, trust_env=False, timeout=10, **request)


def facts(controller: Served) -> list[Any]:
    """What the registry stores: the instances and the events."""
    instances = call(controller, "GET", "/api/v1/instances", {}).json()["instances"]
    return [instances, call(controller, "GET", "/api/v1/events", {}).json()["events"]]


@pytest.fixture
def controller(serve: Serve) -> Served:
    """It has one instance."""
    served = serve()
    assert call(served, "POST", MODELS, {}, json=GOOD).json() is True
    return served


def test_a_rebound_name_reads_and_changes_nothing(controller: Served) -> None:
    before = facts(controller)
    for method, path, request in [*CHANGES, *READS, *PAGES]:
        for prefix in ("", "/") if path.startswith("/api") else ("",):
            reply = call(controller, method, prefix + path, {"Host": f"{EVIL}:{controller.port}"}, **request)
            assert (reply.status_code, reply.json()["code"]) == (421, "host_not_allowed"), (method, path)
            assert f"add {EVIL} to its --allowed-hosts" in reply.json()["detail"]
    assert facts(controller) == before
    assert controller.process.tail().count("host_not_allowed") + controller.process.tail().count(EVIL) <= 3


def test_its_own_names_and_those_that_are_set_are_allowed(serve: Serve) -> None:
    controller = serve("--allowed-hosts", "ctl.example.com, *.prod.example.com,10.9.0.0/16")
    port = controller.port
    for host in ("localhost", f"LOCALHOST:{port}", "ctl.localhost", "127.0.0.1", "127.8.9.1:1", f"[::1]:{port}"):
        assert call(controller, "GET", "/api/health", {"Host": host}).status_code == 200, host
    for host in ("ctl.example.com", f"CTL.example.com.:{port}", "a.b.prod.example.com", "10.9.8.7:80"):
        assert call(controller, "GET", MODELS, {"Host": host}).status_code == 200, host
    for host in (
        EVIL,
        "prod.example.com",
        "xctl.example.com",
        "10.8.0.1",
        "ctl.example.com@evil.example",
        "127.0.0.1.nip.io",
    ):
        assert call(controller, "GET", MODELS, {"Host": host}).status_code == 421, host


def test_any_name_is_allowed_where_other_machines_call(serve: Serve) -> None:
    controller = serve("--host", "0.0.0.0")
    assert call(controller, "GET", MODELS, {"Host": "controller.models.svc:8000"}).status_code == 200


def test_a_check_without_a_host_passes(controller: Served) -> None:
    with socket.create_connection(("127.0.0.1", controller.port), timeout=10) as sock:
        sock.sendall(b"GET /api/health HTTP/1.0\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_page_of_another_site_changes_nothing(controller: Served) -> None:
    before = facts(controller)
    for method, path, request in CHANGES:
        for headers in FOREIGN:
            reply = call(controller, method, path, headers, **request)
            assert (reply.status_code, reply.json()["code"]) == (403, "foreign_origin"), (method, path, headers)
    assert facts(controller) == before


def test_no_answer_lets_a_page_of_another_site_read_it(controller: Served) -> None:
    origin = {"Origin": f"http://{EVIL}"}
    for method, path, _ in [*READS[:-1], *PAGES, ("OPTIONS", MODELS, {})]:
        headers = call(controller, method, path, origin | {"Access-Control-Request-Method": "POST"}).headers
        assert not [name for name in headers if name.startswith("access-control-")], path


def test_the_own_page_and_programs_change_facts(controller: Served) -> None:
    own = {"Origin": controller.url}
    for headers in ({}, own, own | {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert call(controller, "POST", HEARTBEAT, headers, json=GOOD).json() is True, headers


def test_ctl_says_what_to_do_about_a_name_that_is_not_allowed(serve: Serve) -> None:
    """On Linux a connection to 0.0.0.0 arrives at loopback."""
    controller = serve()
    failed = ctl("models", "list", "-a", f"http://0.0.0.0:{controller.port}", expect=6)
    assert "add 0.0.0.0 to its --allowed-hosts" in failed.err
