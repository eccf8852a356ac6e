"""Clients that open connections to the TLS port and do not finish a handshake, or do not let it end."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from contextlib import ExitStack
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pexpect
import pytest

from dbgpt_ctl.controller.http.handshake import HANDSHAKE_SECS
from tests.support.memory import MB, resident_bytes
from tests.support.ports import free_port
from tests.support.tls import authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.conftest import Serve, Served
    from tests.support.tls import Authority

DESCRIPTORS, ATTACKERS = 256, 600
LIMITED = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
REQUEST = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
MOST_BYTES = 100 * MB
TIMEOUT_SECS = 30.0


class Attacked:
    """A controller with few descriptors, and its TLS port."""

    def __init__(self, served: Served, port: int, files: Authority) -> None:
        self.served, self.port, self.context = served, port, files.trusting()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECS)

    def connect_tls(self) -> ssl.SSLSocket:
        return self.context.wrap_socket(self.connect(), server_hostname="127.0.0.1")

    def expect_service(self) -> None:
        """Both listeners answer."""
        assert self.served.health().status_code == 200
        with self.connect_tls() as connection:
            connection.sendall(REQUEST)
            assert connection.recv(12) == b"HTTP/1.1 200"

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.served.pid}/fd"))  # noqa: PTH208 - counts them

    def wait_for_descriptors(self, most: int) -> None:
        deadline = monotonic() + HANDSHAKE_SECS + TIMEOUT_SECS
        while self.descriptors() > most:
            assert monotonic() < deadline, self.descriptors()
            sleep(0.1)

    def client_hello(self) -> bytes:
        """The first bytes of a handshake."""
        outgoing = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            self.context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1").do_handshake()
        return outgoing.read()


@pytest.fixture
def attacked(serve: Serve, tmp_path: Path) -> Attacked:
    files, port = authority(tmp_path / "tls"), free_port()
    return Attacked(serve("--tls-port", str(port), *files.flags, program=LIMITED), port, files)


@pytest.mark.parametrize("kind", ["nothing", "one byte", "half of a hello", "a hello"])
def test_handshakes_that_do_not_end_leave_room_for_others(attacked: Attacked, kind: str) -> None:
    hello = attacked.client_hello()
    sent = {"nothing": b"", "one byte": hello[:1], "half of a hello": hello[: len(hello) // 2], "a hello": hello}[kind]
    attacked.expect_service()
    before, memory = attacked.descriptors(), resident_bytes(attacked.served.pid)
    with ExitStack() as stack:
        for _ in range(ATTACKERS):
            connection = stack.enter_context(attacked.connect())
            try:
                connection.sendall(sent)
            except OSError:  # it made way for a later one
                continue
        attacked.expect_service()
        assert resident_bytes(attacked.served.pid) - memory < MOST_BYTES
        attacked.wait_for_descriptors(before + 2)  # while the attackers hold their ends
    attacked.expect_service()
    assert "Traceback" not in attacked.served.process.log.read_text()


def test_a_handshake_that_trickles_has_one_bound(attacked: Attacked) -> None:
    """Each byte does not give it more time."""
    hello = attacked.client_hello()
    deadline = monotonic() + HANDSHAKE_SECS + TIMEOUT_SECS

    def trickle(connection: socket.socket) -> None:
        for number in range(len(hello)):
            connection.sendall(hello[number : number + 1])
            assert monotonic() < deadline
            sleep(0.1)

    with attacked.connect() as connection, pytest.raises(ConnectionError):
        trickle(connection)
    attacked.expect_service()


def test_peers_that_ignore_the_end_of_tls_do_not_keep_their_connections(attacked: Attacked) -> None:
    attacked.expect_service()
    before = attacked.descriptors()
    with ExitStack() as stack:
        for _ in range(ATTACKERS):
            connection = stack.enter_context(attacked.connect_tls())
            connection.sendall(REQUEST)
            assert connection.recv(12) == b"HTTP/1.1 200"
        attacked.expect_service()
        attacked.wait_for_descriptors(before + 2)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the openssl command is missing")
def test_a_renegotiation_is_refused(attacked: Attacked) -> None:
    """Python's client cannot ask for one, openssl can: `R` on a line of its own."""
    command = f"s_client -connect 127.0.0.1:{attacked.port} -tls1_2"
    client = pexpect.spawn("openssl", command.split(), timeout=TIMEOUT_SECS)
    client.expect("Verify return code")
    client.sendline("R")
    client.expect("no renegotiation|RENEGOTIATING[^$]*error|closed")
    client.close(force=True)
    attacked.expect_service()
