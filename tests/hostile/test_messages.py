"""Hostile HTTP messages against a controller: their size, their pace, and the number of their connections."""

from __future__ import annotations

import contextlib
import re
import socket
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.memory import MB, peak_bytes
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.hostile.conftest import Serve, Served

LARGEST_BYTES = 100 * MB
BLOCKED_SECS = 1.0
"""Longer than this no other request waits."""
HEAD = b"POST /api/controller/heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HEALTH = b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WORKER = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


def send(controller: Served, pieces: Iterable[bytes]) -> float:
    """Sends them over one connection, and asks for the health after each; the longest wait for it, in seconds.

    It stops where the controller refuses to take more.
    """
    longest = 0.0
    with socket.create_connection(("127.0.0.1", controller.port), timeout=30) as sock, contextlib.suppress(OSError):
        for number, piece in enumerate(pieces):
            sock.sendall(piece)
            if number % 8 == 0:
                begin = monotonic()
                assert controller.health().status_code == httpx.codes.OK
                longest = max(longest, monotonic() - begin)
    return longest


MESSAGES = {
    "a head": (HEAD, [b"X-Filler: " + b"x" * MB + b"\r\n"] * 80),
    "a long header": (HEAD + b"X-Filler: ", [b"x" * MB] * 80),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", [b"X-Filler: x\r\n" * (MB // 13)] * 80),
    "a long trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nX-Filler: ", [b"x" * MB] * 80),
    "a long extension of a chunk": (CHUNKED + b"2;a=", [b"x" * MB] * 80),
    "one byte in a chunk": (CHUNKED, [b"1\r\n \r\n" * (MB // 6)] * 80),
    "a long body": (CHUNKED, [b"%x\r\n%b\r\n" % (MB, b" " * MB)] * 80),
    "many requests at once": (b"", [b"GET /api/health HTTP/1.1\r\n\r\n" * (MB // 28)] * 80),
}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_of_many_megabytes_costs_little(serve: Serve, kind: str) -> None:
    controller = serve()
    first, pieces = MESSAGES[kind]
    longest = send(controller, [first, *pieces])
    assert controller.health().status_code == httpx.codes.OK
    assert peak_bytes(controller.pid) < LARGEST_BYTES
    assert longest < BLOCKED_SECS


def status_of(controller: Served) -> dict[str, Any]:
    fields: dict[str, Any] = httpx.get(f"{controller.url}/api/v1/status", timeout=10).json()
    return fields


def open_connections(controller: Served, stack: ExitStack, sent: bytes, count: int) -> list[socket.socket]:
    """Connections that send only this, and stay open at this side."""
    found = []
    for _ in range(count):
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", controller.port), timeout=10))
        with contextlib.suppress(OSError):  # it may close while others come
            sock.sendall(sent)
        found.append(sock)
    return found


IDLE = {
    "nothing sent": b"",
    "half a head": b"GET /api/health HT",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "kept alive": HEALTH,
}


@pytest.mark.parametrize("kind", IDLE)
def test_a_flood_of_idle_connections_keeps_no_worker_out(serve: Serve, kind: str) -> None:
    limit = 200
    controller = serve("--max-connections", str(limit))
    with ExitStack() as stack:
        for _ in range(10):
            open_connections(controller, stack, IDLE[kind], limit // 2)
            for path in ("models", "heartbeat"):
                answer = httpx.post(f"{controller.url}/api/controller/{path}", json=WORKER, timeout=5)
                assert (answer.status_code, answer.json()) == (200, True)
        status = status_of(controller)
        shown = ctl("status", "-a", controller.url).out
    assert status["connections"]["limit"] == limit
    assert status["connections"]["open"] <= limit
    assert status["connections"]["closed"] >= 5 * limit - limit
    assert status["connections"]["refused"] == 0
    assert re.search(rf"connections at {controller.url}: \d+ of at most {limit}; \d+ closed to make room\n", shown)
    assert peak_bytes(controller.pid) < LARGEST_BYTES


def test_a_head_that_comes_slowly_ends(serve: Serve) -> None:
    """A byte a second would keep a connection for hours."""
    controller = serve()
    begin = monotonic()
    with socket.create_connection(("127.0.0.1", controller.port), timeout=0.2) as sock:
        for byte in HEAD[:60]:
            try:
                sock.sendall(bytes([byte]))
                if sock.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert monotonic() - begin < 60
    assert controller.health().status_code == httpx.codes.OK


def test_connections_leave_descriptors_for_files(serve: Serve) -> None:
    """Also a burst that the server accepts at once; the log says that the limit of open files is too low."""
    controller = serve("--max-connections", "1000", program=("sh", "-c", 'ulimit -n 600; exec "$@"', "sh"))
    assert "max_connections 1000: there can be" in controller.process.log.read_text(encoding="utf-8")
    with ExitStack() as stack:
        most = 0
        for _ in range(15):
            open_connections(controller, stack, b"", 100)
            assert controller.health().status_code == httpx.codes.OK
            most = max(most, len(list(Path(f"/proc/{controller.pid}/fd").iterdir())))
    assert most < 600 - 20


def test_empty_lines_after_an_answer_keep_no_worker_out(serve: Serve) -> None:
    limit = 200
    controller = serve("--max-connections", str(limit))
    with ExitStack() as stack:
        for sock in open_connections(controller, stack, HEALTH, limit):
            assert sock.recv(1000)
            sock.sendall(b"\r\n")
        for path in ("models", "heartbeat"):
            answer = httpx.post(f"{controller.url}/api/controller/{path}", json=WORKER, timeout=5)
            assert (answer.status_code, answer.json()) == (200, True)


def test_a_body_is_not_taken_for_a_request(serve: Serve) -> None:
    """Behind a proxy that passes `Upgrade` on, it would be a request that the proxy has not seen."""
    controller = serve()
    assert httpx.post(f"{controller.url}/api/controller/models", json=WORKER).json() is True
    query = "&".join(f"{name}={value}" for name, value in WORKER.items())
    smuggled = f"DELETE /api/controller/models?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
    head = HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    with socket.create_connection(("127.0.0.1", controller.port), timeout=5) as sock, contextlib.suppress(OSError):
        sock.sendall(head)
        assert b"400 Bad Request" in sock.recv(1000)
        sock.sendall(smuggled)
        sock.recv(1000)
    assert status_of(controller)["models"][0]["healthy"] == 1


def test_bad_requests_do_not_fill_the_log(serve: Serve) -> None:
    controller = serve()
    before = controller.process.log.stat().st_size
    for head in (
        b"CONNECT x:80 HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        HEALTH[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ):
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", controller.port), timeout=5) as sock:
                sock.sendall(head)
                sock.recv(1000)
    log = controller.process.log.read_text(encoding="utf-8")
    assert len(log) - before < 1000
    assert "Traceback" not in log
