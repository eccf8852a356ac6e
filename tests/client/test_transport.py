"""Over real sockets: silence, broken replies, lost connections, proxies of the environment, certificates."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.client import aio
from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.failover import MAX_SHORT_ANSWER_BYTES, Request
from dbgpt_ctl.client.responses import LONG_BYTES, NoResponse, Response
from dbgpt_ctl.client.transport import Transport, client_options
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, UsageError
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.settings.addresses import Address, parse_address, parse_addresses
from tests.client.clients import OBJECT, VERBS
from tests.client.servers import (
    LIST_REPLY,
    behaving,
    black_hole,
    closed_port,
    read_request,
    reply,
    unconnectable,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.clients import MakeCalls

LIST = VERBS["list"]


def test_a_cookie_is_not_kept(make_calls: MakeCalls) -> None:
    """It might be a secret of a proxy, and the next request may look into the other scheme."""
    requests: list[bytes] = []

    def behave(connection: socket.socket, _number: int) -> None:
        while request := read_request(connection):
            requests.append(request)
            connection.sendall(reply(LIST_REPLY).replace(b"\r\n", b"\r\nSet-Cookie: session=secret; Path=/\r\n", 1))

    with behaving(behave) as url:
        make_calls(url, LIST, LIST)
    assert len(requests) == 2
    assert b"ookie" not in b"".join(requests)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("first", [black_hole, unconnectable, None], ids=["frozen", "drops packets", "closed"])
def test_a_controller_that_is_away_costs_its_share_once(make_calls: MakeCalls, verb: str, first: Any) -> None:
    with ExitStack() as stack:
        away = closed_port() if first is None else stack.enter_context(first())
        here = stack.enter_context(working())
        outcomes = make_calls(f"{away},{here.url}", VERBS[verb], VERBS[verb], timeout=1.0)
        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert len(here.lines) == 2


@pytest.mark.parametrize(
    ("server", "says"),
    [(black_hole, "no answer"), (unconnectable, "no connection")],
    ids=["frozen", "drops packets"],
)
def test_no_controller_answers(make_calls: MakeCalls, server: Any, says: str) -> None:
    with server() as away:
        (outcome,) = make_calls(f"{away},{closed_port()}", LIST, timeout=0.4)
    assert type(outcome) is ControllerUnreachable
    assert f"{away}: {says} within 0.2 s" in str(outcome)
    assert "Connection refused" in str(outcome)


def test_a_host_that_does_not_resolve(make_calls: MakeCalls) -> None:
    (outcome,) = make_calls("http://unknown.invalid:8000", LIST, timeout=30.0)
    assert type(outcome) is ControllerUnreachable
    assert "http://unknown.invalid:8000: " in str(outcome)


def test_a_slow_body_is_cut_off_at_the_timeout(make_calls: MakeCalls) -> None:
    gone = threading.Event()

    def drip(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not gone.wait(0.02):
            connection.sendall(b" ")

    with behaving(drip) as url:
        (outcome,) = make_calls(url, LIST, timeout=0.3)
        gone.set()
    assert type(outcome) is ControllerUnreachable
    assert "no answer within 0.3 s" in str(outcome)


BROKEN: dict[str, Callable[[socket.socket], None]] = {
    "closes at once": lambda connection: connection.close(),
    "no HTTP": lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n"),
    "half a body": lambda connection: connection.sendall(reply(LIST_REPLY)[:-5]),
    "gzip": lambda connection: connection.sendall(reply(LIST_REPLY, "Content-Encoding: gzip")),
    "redirect to no name": lambda connection: connection.sendall(
        b"HTTP/1.1 301 Moved\r\nLocation: http://xn--a/\r\nContent-Length: 0\r\n\r\n"
    ),
    "reset": lambda connection: connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_after_a_broken_response_the_next_controller_is_tried(
    make_calls: MakeCalls, broken: Callable[[socket.socket], None]
) -> None:
    def behave(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        broken(connection)

    with behaving(behave) as bad, working() as here:
        listed, alone = *make_calls(f"{bad},{here.url}", LIST), *make_calls(bad, LIST)
    assert listed.objects == [OBJECT]
    assert type(alone) is ControllerUnreachable
    assert bad in str(alone)
    assert str(alone).isprintable()


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
def test_a_body_without_an_end_is_left_at_the_limit(make_calls: MakeCalls, status: str) -> None:
    def endless(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
        while True:
            connection.sendall(bytes(MAX_SHORT_ANSWER_BYTES // 10))

    verb = VERBS["heartbeat"]
    with behaving(endless) as bad, working() as here:
        beaten, alone = *make_calls(f"{bad},{here.url}", verb), *make_calls(bad, verb)
    assert beaten is True
    assert type(alone) is ControllerFailed
    assert ("larger than 1 MB" if status.startswith("200") else "500 Internal Server Error") in str(alone)


def test_long_answers_are_read_one_after_another() -> None:
    """Many callers of a forwarding controller at once need the memory of one."""
    reading: set[int] = set()
    most = 0
    body = json.dumps([OBJECT] * 20_000).encode()

    def behave(connection: socket.socket, _number: int) -> None:
        while read_request(connection):
            connection.sendall(reply(body))

    class Counting(BodyReader):
        def add(self, chunk: bytes) -> None:
            nonlocal most
            super().add(chunk)
            if len(self) > 2 * LONG_BYTES:  # the first chunk beyond LONG_BYTES comes before the turn
                reading.add(id(self))
                most = max(most, len(reading))

        def outcome(self) -> Any:
            reading.discard(id(self))
            return super().outcome()

    async def list_often(url: str) -> list[int]:
        async with AsyncControllerClient(url, timeout=30) as client:
            return [len(one.objects) for one in await asyncio.gather(*(client.list() for _ in range(8)))]

    with behaving(behave) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(aio, "BodyReader", Counting)
        assert asyncio.run(list_often(url)) == [20_000] * 8
    assert most == 1


def test_connections_are_kept_alive(make_calls: MakeCalls) -> None:
    with working() as here:
        make_calls(here.url, *VERBS.values(), lambda client: client.health())
        assert len(here.lines) == 5
        assert len(here.connections) == 1


def test_a_kept_connection_that_closes_under_the_next_call_is_replaced(make_calls: MakeCalls) -> None:
    numbers: list[int] = []

    def behave(connection: socket.socket, number: int) -> None:
        read_request(connection)
        connection.sendall(reply(LIST_REPLY))
        if read_request(connection):
            numbers.append(number)
            if number:
                connection.sendall(reply(LIST_REPLY))

    with behaving(behave) as url:
        outcomes = make_calls(url, LIST, LIST, LIST)
    assert [outcome.objects for outcome in outcomes] == [[OBJECT]] * 3
    assert numbers == [0, 1]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_only_used_with_trust_env(
    make_calls: MakeCalls, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with working() as trap, working() as here:
        monkeypatch.setenv(name, trap.url)
        (direct,) = make_calls(here.url, LIST)
        assert (len(trap.lines), len(here.lines)) == (0, 1)
        (proxied,) = make_calls(here.url, LIST, trust_env=True)
        assert (len(trap.lines), len(here.lines)) == (1, 1)
        assert trap.lines[0].startswith(f"GET {here.url}/api/controller/models ")
    assert direct.objects == proxied.objects == [OBJECT]


def test_no_certificates_are_read_for_http_only_and_none_is_trusted_then() -> None:
    context = client_options(parse_addresses("http://a,b"), trust_env=False)["verify"]
    assert context.cert_store_stats()["x509_ca"] == 0
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_https_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    context = client_options(parse_addresses("http://a,https://b"), trust_env=False)["verify"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", os.devnull)
    context = client_options(parse_addresses("https://b"), trust_env=False)["verify"]
    assert context.cert_store_stats()["x509_ca"] == 0


def test_importing_the_client_does_not_import_httpx() -> None:
    code = "import sys; from dbgpt_ctl import ControllerClient; print('httpx' in sys.modules, 'asyncio' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]


def request_to(url: str, timeout: float = 30.0) -> Request:
    return Request("GET", parse_address(url), "/", None, timeout)


def test_it_says_when_the_connection_was_made() -> None:
    transport = Transport(client_options((), trust_env=False))
    with working() as server:
        began = monotonic()
        transport.send(request_to(server.url))
        assert transport.connected_at is not None
        assert began <= transport.connected_at <= monotonic()
    transport.send(request_to(closed_port()))
    assert transport.connected_at is None
    transport.close()


def test_a_body_may_have_another_reader() -> None:
    """It is asked for each chunk whether it wants more."""

    class First(BodyReader):
        wanted = True

        def add(self, chunk: bytes) -> None:
            super().add(chunk)
            self.wanted = False

    def behave(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nfirst")
        connection.recv(1)

    transport = Transport(client_options((), trust_env=False))
    with behaving(behave) as url:
        outcome = transport.send(request_to(url), First)
    assert isinstance(outcome, Response)
    assert outcome.body == b"first"
    transport.close()


def test_a_controller_whose_name_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        client_options((Address("http://xn--a:8000"),), trust_env=False)


@pytest.mark.parametrize("host", ["a..b", "x" * 80, "xn--a"])
def test_a_host_that_httpx_refuses_has_no_address(host: str) -> None:
    transport = Transport(client_options((), trust_env=False))
    outcome = transport.send(Request("GET", Address(f"http://{host}:1"), "/", None, 30.0))
    assert isinstance(outcome, NoResponse)
    assert outcome.cause is FailureCause.NAME_LOOKUP
    transport.close()
