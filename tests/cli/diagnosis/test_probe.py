"""Probes of workers' addresses: real sockets on loopback."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.cli.diagnosis.probe import MAX_ENDPOINTS, means_caller, probe_all
from dbgpt_ctl.diagnosis.facts import Endpoint, ProbeOutcome
from tests.client.servers import behaving, resets
from tests.support.fake_worker import NO_QUERY, status

if TYPE_CHECKING:
    from collections.abc import Iterator


WORKER = status(422, NO_QUERY)
PATH = "/api/worker/parameter/descriptions"
AMPLE_SECS = 20.0
"""More than any answer takes."""


@contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[Endpoint, list[bytes]]]:
    """Every connection gets `answer` and is closed; with None none is ever accepted. Yields the requests too."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while answer is not None:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    requests.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Endpoint("127.0.0.1", server.getsockname()[1]), requests
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def closed() -> Iterator[Endpoint]:
    """A port that is bound, so that no other process gets it, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Endpoint("127.0.0.1", bound.getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "outcome", "detail"),
    [
        (WORKER, ProbeOutcome.WORKER, "a worker answers"),
        (
            b"HTTP/1.0 404 Not Found\r\n\r\n",
            ProbeOutcome.OTHER,
            "an HTTP server answers, but not as a worker: status 404",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n", ProbeOutcome.OTHER, "302"),
        (b"HTTP/1.1 200 OK\r\n\r\n", ProbeOutcome.OTHER, "200"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", ProbeOutcome.OTHER, "does not speak HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x50", ProbeOutcome.OTHER, "does not speak HTTP"),
        (b"", ProbeOutcome.RESET, "closes the connection without a whole answer"),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
            ProbeOutcome.RESET,
            "closes the connection without a whole answer",
        ),
    ],
)
def test_what_answers(answer: bytes, outcome: ProbeOutcome, detail: str) -> None:
    with answering(answer) as (endpoint, requests):
        found = probe_all([endpoint], AMPLE_SECS)[endpoint]
    assert found.outcome is outcome
    assert detail in found.detail
    assert found.detail.isprintable()
    assert [request.split(b"\r\n")[0] for request in requests] == [f"GET {PATH} HTTP/1.1".encode()]


def test_a_closed_port() -> None:
    with closed() as endpoint:
        assert probe_all([endpoint], AMPLE_SECS)[endpoint].outcome is ProbeOutcome.REFUSED


def test_one_that_resets() -> None:
    with behaving(resets) as url:
        endpoint = Endpoint("127.0.0.1", int(url.rpartition(":")[2]))
        assert probe_all([endpoint], AMPLE_SECS)[endpoint].outcome is ProbeOutcome.RESET


def test_a_name_that_is_not_known() -> None:
    endpoint = Endpoint("worker.invalid", 8001)
    found = probe_all([endpoint], AMPLE_SECS)[endpoint]
    assert found.outcome is ProbeOutcome.UNKNOWN_NAME
    assert found.detail.startswith("its host name cannot be looked up: ")


def test_one_that_hangs_is_not_waited_for_and_does_not_hold_up_the_others() -> None:
    with answering(None) as (hanging, _), answering(WORKER) as (worker, _), closed() as gone:
        found = probe_all([hanging, worker, gone], 0.3)
    assert [found[endpoint].outcome for endpoint in (hanging, worker, gone)] == [
        ProbeOutcome.SILENT,
        ProbeOutcome.WORKER,
        ProbeOutcome.REFUSED,
    ]
    assert found[hanging].detail == "no answer within 0.3 s, seen from here"


def test_one_that_sends_a_byte_now_and_then_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        endpoint = Endpoint("127.0.0.1", server.getsockname()[1])
        found = probe_all([endpoint], 0.3)[endpoint]
        stop.set()
        thread.join()
    assert found.outcome is ProbeOutcome.OTHER


@pytest.mark.parametrize("host", ["a b", "h\r\nX-Evil: 1", "user@h", "h/path", "", "\x00"])
def test_a_host_that_is_none_is_not_called(host: str) -> None:
    endpoint = Endpoint(host, 80)
    assert probe_all([endpoint], AMPLE_SECS)[endpoint].outcome is ProbeOutcome.FAILED


def test_a_name_that_no_host_can_have() -> None:
    endpoint = Endpoint("ü" * 300, 80)
    assert probe_all([endpoint], AMPLE_SECS)[endpoint].outcome is ProbeOutcome.UNKNOWN_NAME


@pytest.mark.parametrize("port", [0, -1, 65536, 10**400])
def test_a_port_that_is_none_is_not_called(port: int) -> None:
    """Python's socket raises OverflowError for it."""
    endpoint = Endpoint("127.0.0.1", port)
    assert probe_all([endpoint], AMPLE_SECS)[endpoint].outcome is ProbeOutcome.FAILED


def test_an_ipv6_host_in_brackets_is_called() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        endpoint = Endpoint("[::1]", server.getsockname()[1])
        assert probe_all([endpoint], 0.3)[endpoint].outcome is ProbeOutcome.SILENT


def test_no_endpoints() -> None:
    before = monotonic()
    assert probe_all([], AMPLE_SECS) == {}
    assert monotonic() - before < AMPLE_SECS
    assert MAX_ENDPOINTS == 50


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "0.0.0.0", "[::]"])
def test_a_loopback_address_is_called_only_beside_the_controller(host: str) -> None:
    assert means_caller(host, "ctl-1")
    assert means_caller(host, "10.0.0.1")
    assert not means_caller(host, "127.0.0.1")
    assert not means_caller(host, "localhost")


@pytest.mark.parametrize("host", ["10.0.0.4", "worker-7", "[fd00::5]"])
def test_any_other_address_is_called(host: str) -> None:
    assert not means_caller(host, "ctl-1")
    assert not means_caller(host, "127.0.0.1")
