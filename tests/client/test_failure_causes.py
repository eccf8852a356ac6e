"""Each way in which a controller gives no answer, over real sockets, has its own cause, and its fix is in the error."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from dbgpt_ctl.errors import ControllerUnreachable
from dbgpt_ctl.failure_causes import FailureCause
from tests.client.clients import KEY, VERBS
from tests.client.servers import (
    LIST_REPLY,
    behaving,
    black_hole,
    closed_port,
    read_request,
    reply,
    resets,
    unconnectable,
    working,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.client.clients import Call, MakeCalls

CALLS: dict[str, Call] = {**VERBS, "status": lambda client: client.status(), "drain": lambda client: client.drain(KEY)}
PAGE = b"<html><h1>404 Not Found</h1><hr>nginx</html>"
PLAIN_TO_TLS = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 70\r\n\r\n"
PLAIN_TO_TLS += b"<html>The plain HTTP request was sent to HTTPS port</html>".ljust(70)


def answers(status: str, body: bytes) -> AbstractContextManager[str]:
    """An HTTP server with one answer to everything."""

    def behave(connection: socket.socket, _number: int) -> None:
        while read_request(connection):
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

    return behaving(behave)


def hangs_up(connection: socket.socket, _number: int) -> None:
    read_request(connection)


def greets(connection: socket.socket, _number: int) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
    connection.recv(65536)


def greets_and_waits(connection: socket.socket, number: int) -> None:
    greets(connection, number)
    connection.recv(65536)


def breaks_off(connection: socket.socket, _number: int) -> None:
    read_request(connection)
    connection.sendall(reply(LIST_REPLY)[:-5])


def sends_a_broken_chunk(connection: socket.socket, _number: int) -> None:
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n" + LIST_REPLY)


@contextmanager
def serving_tls(certificate: trustme.LeafCert, *, tells: bool = False) -> Iterator[str]:
    """A controller behind TLS; the URL that it yields has the scheme https.

    To plain HTTP it sends nothing, as OpenSSL does; with `tells` the page of nginx.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)

    def behave(connection: socket.socket, _number: int) -> None:
        if tells and connection.recv(1, socket.MSG_PEEK) != b"\x16":
            read_request(connection)
            connection.sendall(PLAIN_TO_TLS)
            return
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            while read_request(secure):
                secure.sendall(reply(LIST_REPLY))

    with behaving(behave) as url:
        yield url.replace("http:", "https:")


@contextmanager
def another_name() -> Iterator[str]:
    yield "http://ctl.invalid:8000"


NOT_TLS: dict[str, tuple[Callable[[], AbstractContextManager[str]], FailureCause, str]] = {
    "name lookup": (another_name, FailureCause.NAME_LOOKUP, "its host name cannot be looked up: "),
    "drops packets": (unconnectable, FailureCause.CONNECT_TIMEOUT, "no connection within 0.9 s"),
    "hangs": (black_hole, FailureCause.ANSWER_TIMEOUT, "no answer within 1 s"),
    "resets": (lambda: behaving(resets), FailureCause.RESET, "connect"),
    "hangs up": (lambda: behaving(hangs_up), FailureCause.RESET, "connect"),
    "breaks off": (lambda: behaving(breaks_off), FailureCause.RESET, "connect"),
    "broken chunk": (lambda: behaving(sends_a_broken_chunk), FailureCause.RESET, "chunk"),
    "no HTTP": (lambda: behaving(greets), FailureCause.NOT_A_CONTROLLER, "does not speak HTTP"),
    "no HTTP, waits": (
        lambda: behaving(greets_and_waits),
        FailureCause.NOT_A_CONTROLLER,
        "does not speak HTTP",
    ),
    "404 page": (lambda: answers("404 Not Found", PAGE), FailureCause.NOT_A_CONTROLLER, "(404 Not Found)"),
    "405 page": (lambda: answers("405 Not Allowed", PAGE), FailureCause.NOT_A_CONTROLLER, "(405 Method Not Allowed)"),
    "200 page": (lambda: answers("200 OK", PAGE), FailureCause.NOT_A_CONTROLLER, "(200"),
    "redirect": (lambda: answers("302 Found", PAGE), FailureCause.NOT_A_CONTROLLER, "(302 Found)"),
}
WAITED_OUT = {"drops packets": 1.0, "hangs": 1.0, "no HTTP, waits": 2.0}
"""The client waits its whole time for these, in seconds. All others end by themselves, however slow the machine is."""


def check(
    make_calls: MakeCalls, url: str, cause: FailureCause, says: str, calls: Any = CALLS, *, timeout: float = 30.0
) -> None:
    """Each call and the health check name the cause; the message ends with the fix."""
    outcomes = make_calls(url, *calls.values(), lambda client: client.health(), timeout=timeout)
    *errors, (health,) = outcomes
    assert [(type(error), error.cause) for error in errors] == [(ControllerUnreachable, cause)] * len(errors)
    for error in errors:
        assert says.lower() in error.detail.lower()
        assert error.cause.fix in str(error) or error.cause is FailureCause.REFUSED
        assert str(error).isprintable()
    assert (health.ok, health.cause) == (False, cause)
    assert says.lower() in health.detail.lower() or cause is FailureCause.NOT_A_CONTROLLER


@pytest.mark.parametrize("name", NOT_TLS)
def test_without_tls(make_calls: MakeCalls, name: str) -> None:
    server, cause, says = NOT_TLS[name]
    with server() as url:
        calls = CALLS if "page" in says or "404" in says else VERBS
        check(make_calls, url, cause, says, calls, timeout=WAITED_OUT.get(name, 30.0))


def test_a_closed_port(make_calls: MakeCalls) -> None:
    check(make_calls, closed_port(), FailureCause.REFUSED, "Connection refused")


@pytest.fixture
def ca(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """An authority that this process trusts, and no other."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", os.devnull)
    return authority


def test_a_trusted_certificate_is_accepted(make_calls: MakeCalls, ca: trustme.CA) -> None:
    with serving_tls(ca.issue_cert("127.0.0.1")) as url:
        (listed,) = make_calls(url, VERBS["list"])
    assert listed.controller == url


def test_an_untrusted_certificate(make_calls: MakeCalls, ca: trustme.CA) -> None:
    del ca
    with serving_tls(trustme.CA().issue_cert("127.0.0.1")) as url:
        check(make_calls, url, FailureCause.CERTIFICATE_UNTRUSTED, "its certificate is refused: ")


def test_a_certificate_of_another_address(make_calls: MakeCalls, ca: trustme.CA) -> None:
    with serving_tls(ca.issue_cert("10.0.0.1")) as url:
        check(make_calls, url, FailureCause.CERTIFICATE_NAME, "127.0.0.1")


def test_a_certificate_of_another_name(make_calls: MakeCalls, ca: trustme.CA) -> None:
    with serving_tls(ca.issue_cert("ctl-1.example")) as url:
        check(make_calls, url.replace("127.0.0.1", "localhost"), FailureCause.CERTIFICATE_NAME, "localhost")


@pytest.mark.parametrize(("begins", "ends"), [(2000, 2001), (2100, 2101)], ids=["expired", "not yet valid"])
def test_a_certificate_of_another_time(make_calls: MakeCalls, ca: trustme.CA, begins: int, ends: int) -> None:
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (begins, ends))
    with serving_tls(ca.issue_cert("127.0.0.1", not_before=first, not_after=last)) as url:
        check(make_calls, url, FailureCause.CERTIFICATE_DATE, "its certificate is refused: ")


def test_tls_to_a_plain_port(make_calls: MakeCalls) -> None:
    with working() as here:
        url = here.url.replace("http:", "https:")
        check(make_calls, url, FailureCause.NEEDS_HTTP, "it speaks plain HTTP on that port")
        assert set(here.lines) == {"GET /api/health HTTP/1.1"}


@pytest.mark.parametrize("tells", [True, False], ids=["nginx", "closes"])
@pytest.mark.parametrize("trusted", [True, False])
def test_plain_http_to_a_tls_port(make_calls: MakeCalls, ca: trustme.CA, *, tells: bool, trusted: bool) -> None:
    authority = ca if trusted else trustme.CA()
    with serving_tls(authority.issue_cert("127.0.0.1"), tells=tells) as url:
        check(make_calls, url.replace("https:", "http:"), FailureCause.NEEDS_HTTPS, "it speaks TLS on that port")


def test_a_port_that_speaks_neither(make_calls: MakeCalls) -> None:
    with behaving(greets) as url:
        check(make_calls, url.replace("http:", "https:"), FailureCause.TLS_FAILED, "")


def test_a_tls_port_that_redirects_plain_http_does_not_speak_it(make_calls: MakeCalls) -> None:
    def behave(connection: socket.socket, _number: int) -> None:
        if connection.recv(1, socket.MSG_PEEK) != b"\x16":  # no handshake succeeds, as while its certificate is away
            read_request(connection)
            connection.sendall(b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://x\r\nContent-Length: 0\r\n\r\n")

    with behaving(behave) as url:
        (error,) = make_calls(url.replace("http:", "https:"), VERBS["list"])
    assert error.cause is not FailureCause.NEEDS_HTTP


def test_what_looks_into_the_other_scheme_carries_no_token(make_calls: MakeCalls) -> None:
    requests: list[bytes] = []

    def behave(connection: socket.socket, _number: int) -> None:
        if connection.recv(1, socket.MSG_PEEK) != b"\x16":
            requests.append(read_request(connection))
            connection.sendall(reply(b'{"status": "ok"}'))

    with behaving(behave) as url:
        make_calls(url.replace("http://", "https://user:secret@"), VERBS["list"])
    assert requests
    assert b"uthorization" not in b"".join(requests)


def test_several_causes_in_one_error(make_calls: MakeCalls) -> None:
    with black_hole() as frozen:
        (error,) = make_calls(f"{frozen},{closed_port()}", VERBS["list"], timeout=0.4)
    assert error.cause is None
    assert [attempt.cause for attempt in error.attempts] == [FailureCause.ANSWER_TIMEOUT, FailureCause.REFUSED]
    assert str(error).endswith("; ctl doctor says what to do about each")
