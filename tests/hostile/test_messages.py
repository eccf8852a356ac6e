"""Hostile HTTP messages against a controller."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import httpx

from tests.support.memory import MB, peak_bytes

if TYPE_CHECKING:
    from tests.hostile.conftest import Serve

LARGEST_BYTES = 100 * MB
HEAD = b"POST /api/controller/heartbeat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def test_a_head_of_many_megabytes_is_refused(serve: Serve) -> None:
    controller = serve()
    with socket.create_connection(("127.0.0.1", controller.port), timeout=10) as sock:
        sock.sendall(HEAD)
        try:
            for _ in range(80):
                sock.sendall(b"X-Filler: " + b"x" * MB + b"\r\n")
        except ConnectionError:
            pass  # it was refused while it was sent
    assert controller.health().status_code == httpx.codes.OK
    assert peak_bytes(controller.pid) < LARGEST_BYTES
