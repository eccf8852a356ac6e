"""Clients that ask for much and do not read it."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance
from tests.support.memory import MB, peak_bytes, reset_peak, resident_bytes

if TYPE_CHECKING:
    from tests.hostile.conftest import Serve, Served

INSTANCES, READERS = 200_000, 15
WATCHERS, EVENTS = 500, 5_000
KB = 1_000
WORKER = {"model_name": "m1@llm", "host": "10.0.1.1", "port": 9999}
MOST_BYTES = 600 * MB
"""Beyond what the controller has for the instances themselves. Each reader had up to 144 MB before."""


@pytest.fixture
def controller(serve: Serve) -> Served:
    now = datetime.now(UTC)
    keys = sorted(InstanceKey(f"m{n % 100}@llm", f"10.0.0.{n % 200}", 1 + n // 200) for n in range(INSTANCES))
    instances = [ModelInstance(key, 1.0, False, None, now, now) for key in keys]
    return serve("--heartbeat-timeout-secs", "3600", "--max-instances", "300000", instances=instances)


def status_of(controller: Served) -> dict[str, Any]:
    fields: dict[str, Any] = httpx.get(f"{controller.url}/api/v1/status", timeout=30).json()
    return fields


def beat(controller: Served, number: int) -> None:
    """Registers one more instance: the next list is another one."""
    url, worker = f"{controller.url}/api/controller/heartbeat", WORKER | {"port": 9000 + number}
    assert httpx.post(url, json=worker, timeout=30).json() is True


def stalled_reader(controller: Served, stack: ExitStack, path: str) -> socket.socket:
    """Reads the first bytes of the answer and then nothing, with a small buffer."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(("127.0.0.1", controller.port))
    sock.sendall(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode())
    assert sock.recv(16).startswith(b"HTTP/1.1 200 ")
    return sock


@pytest.mark.parametrize("change", [False, True], ids=["one list", "a new list for each"])
@pytest.mark.parametrize("path", ["/api/controller/models", "/api/v1/instances"])
def test_readers_that_stall_share_what_they_do_not_read(controller: Served, path: str, change: bool) -> None:
    before = resident_bytes(controller.pid)
    reset_peak(controller.pid)
    with ExitStack() as stack:
        for number in range(READERS):
            if change:
                beat(controller, number)
            stalled_reader(controller, stack, path)
        peak = peak_bytes(controller.pid) - before
        dropped = status_of(controller)["readers_dropped"]
    assert peak < MOST_BYTES
    assert dropped or not change  # the lists of all of them would have 0.6 GB and more


@pytest.mark.parametrize("path", ["/api/controller/models", "/api/v1/instances"])
def test_a_slow_reader_gets_a_list_of_one_moment(controller: Served, path: str) -> None:
    with ExitStack() as stack:
        sock = stalled_reader(controller, stack, path)
        for number in range(100):
            beat(controller, number)
        reply = sock.makefile("rb")
        length = next(int(line[16:]) for line in reply if line.lower().startswith(b"content-length:"))
        while reply.readline() != b"\r\n":
            pass
        answer = json.loads(reply.read(length))
    listed = answer if isinstance(answer, list) else answer["instances"]
    assert len(listed) == INSTANCES
    assert listed == sorted(listed, key=lambda one: (one["model_name"], one["host"], one["port"]))


def test_watchers_that_never_read_cost_little(serve: Serve) -> None:
    """Each would keep a batch of events and what the system buffers for it; the events themselves are shared."""
    controller = serve()
    with ExitStack() as stack, httpx.Client(base_url=controller.url, timeout=30) as worker:
        for _ in range(WATCHERS):
            stalled_reader(controller, stack, "/api/v1/watch")
        assert status_of(controller)["watchers"] == WATCHERS
        before = resident_bytes(controller.pid)
        reset_peak(controller.pid)
        for port in range(1, 1 + EVENTS):
            answer = worker.post("/api/controller/models", json=WORKER | {"port": port})
            assert (answer.status_code, answer.json()) == (200, True)
        assert status_of(controller)["last_event_id"] == EVENTS
        peak = peak_bytes(controller.pid) - before
    assert peak < WATCHERS * 100 * KB
