"""Callers that ask for their requests to be recorded, and trace files that can take no more."""

from __future__ import annotations

import resource
import socket
from time import monotonic, sleep
from typing import TYPE_CHECKING

import httpx
import orjson

from dbgpt_ctl.tracing.tracer import CALLERS_BURST, CALLERS_PER_SECOND, SPANS_PER_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.hostile.conftest import Serve, Served

HEARTBEATS, AT_ONCE = 10_000, 100
BODY = orjson.dumps({"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001})
SAMPLED = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
WAIT_SECS = 60.0
MB = 1_000_000


def send_heartbeats(controller: Served, headers: str = "") -> None:
    """Sends HEARTBEATS of them over one connection, and reads that each one is stored."""
    head = f"POST /api/controller/heartbeat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    one = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with socket.create_connection(("127.0.0.1", controller.port), timeout=30) as sock:
        for _ in range(HEARTBEATS // AT_ONCE):
            sock.sendall(one * AT_ONCE)
            answers = b""
            while answers.count(b"\r\n\r\ntrue") < AT_ONCE:
                received = sock.recv(65536)
                assert received, answers[-1000:]
                answers += received


def wait_for(condition: Callable[[], bool], controller: Served) -> None:
    deadline = monotonic() + WAIT_SECS
    while not condition():
        assert monotonic() < deadline, controller.process.tail()
        sleep(0.05)


def test_a_caller_cannot_have_all_its_requests_recorded(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    began = monotonic()
    controller = serve("--tracer-file", str(path))
    send_heartbeats(controller, SAMPLED)
    most = SPANS_PER_REQUEST * (CALLERS_BURST + CALLERS_PER_SECOND * (monotonic() - began))
    # A register is always recorded, and its spans are written after those of the heartbeats before it.
    httpx.post(f"{controller.url}/api/controller/models", json=orjson.loads(BODY), trust_env=False, timeout=10)
    wait_for(lambda: b"register_instance" in path.read_bytes(), controller)
    heartbeats = path.read_bytes().count(b"\n") - SPANS_PER_REQUEST
    assert 0 < heartbeats <= most
    assert path.stat().st_size < HEARTBEATS * 100
    assert controller.process.tail().count("spans dropped: callers ask for more than 10 requests a second") >= 1


def test_a_trace_file_has_a_size_limit(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    controller = serve("--tracer-file", str(path), "--tracer-file-max-mb", "1", "--tracer-sample-ratio", "1")
    send_heartbeats(controller)
    wait_for(lambda: "1 MB of tracer_file_max_mb" in controller.process.tail(), controller)
    send_heartbeats(controller)
    assert 0 < path.stat().st_size <= MB
    assert all(orjson.loads(line) for line in path.read_bytes().splitlines())
    assert controller.process.tail().count("tracer_file_max_mb") == 1


def test_a_trace_file_that_cannot_grow_blocks_no_request(serve: Serve, tmp_path: Path) -> None:
    """A limit on the size of its files stands for a full disk here."""
    path = tmp_path / "traces.jsonl"
    controller = serve("--tracer-file", str(path), "--tracer-sample-ratio", "1")
    resource.prlimit(controller.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
    send_heartbeats(controller)
    wait_for(lambda: "trying again" in controller.process.tail(), controller)
    send_heartbeats(controller)
    assert controller.health().json() == {"status": "ok"}
    assert controller.process.tail().count("trying again") == 1
    assert path.stat().st_size <= 100_000
