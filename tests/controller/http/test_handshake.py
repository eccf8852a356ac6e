"""`ctl serve` with TLS as a process: what it serves, what a failed handshake leaves in its log, a new certificate."""

from __future__ import annotations

import json
import socket
import ssl
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import Mock

import httpx
import pytest
import requests
import trustme

from dbgpt_ctl.controller.http import handshake as handshake_module
from dbgpt_ctl.controller.http.handshake import LOG_SECS, FailedHandshakes, Handshakes
from tests.controller.test_server import GOOD, Served, connected, serving
from tests.support.ports import free_port
from tests.support.process import ctl
from tests.support.tls import authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.tls import Authority

TIMEOUT_SECS = 30.0
key_types = pytest.mark.parametrize("key_type", [trustme.KeyType.ECDSA, trustme.KeyType.RSA], ids=["ecdsa", "rsa"])


@pytest.fixture
def files(tmp_path: Path) -> Authority:
    return authority(tmp_path / "tls")


@contextmanager
def both(files: Authority) -> Iterator[tuple[Served, int]]:
    """A controller with both listeners, and the port of the second one."""
    port = free_port()
    with serving("--tls-port", str(port), *files.flags) as served:
        served.wait_for_line(f"listening on https://127.0.0.1:{port}")
        yield served, port


def serial(port: int, files: Authority) -> int:
    """The number of the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECS) as connection,
        files.trusting().wrap_socket(connection, server_hostname="127.0.0.1") as over_tls,
    ):
        return int(str((over_tls.getpeercert() or {})["serialNumber"]), 16)


@key_types
def test_both_listeners_serve_the_clients_of_dbgpt(tmp_path: Path, key_type: trustme.KeyType) -> None:
    files = authority(tmp_path / "tls", key_type)
    with both(files) as (served, port):
        url = f"https://127.0.0.1:{port}"
        with httpx.Client(verify=files.trusting(), trust_env=False) as client:
            assert client.post(f"{url}/api/controller/models", json=GOOD).content == b"true"
            for _ in range(3):  # over one connection, by the short cut for prepared answers
                assert client.post(f"{url}/api/controller/heartbeat", json=GOOD).content == b"true"
            one = httpx.QueryParams({name: str(GOOD[name]) for name in ("model_name", "host", "port")})
            shown = client.get(f"{url}/api/v1/commands", params=one)
            assert all(each["command"].startswith(f"ctl -a {url} ") for each in shown.json()["commands"])
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(f"{url}/api/health", verify=str(files.ca_file)).json() == {"status": "ok"}
        flags = ("--address", url, "--ca-file", str(files.ca_file))
        (listed,) = json.loads(ctl("models", "list", "-o", "json", *flags).out)
        assert listed["model_name"] == "qwen@llm"
        assert served.health().status_code == 200
        status = httpx.get(f"{served.url}/api/v1/status", trust_env=False).json()
        assert (status["tls"]["port"], status["tls"]["problem"]) == (port, None)
        assert served.end() == 0
        assert served.errors() == []


def test_the_application_knows_that_it_is_called_over_tls(files: Authority) -> None:
    """FastAPI makes the servers of its document from the scheme, and no answer is a redirect."""
    with serving(tls=files) as served, httpx.Client(verify=files.trusting(), trust_env=False) as client:
        assert not any("http://" in line for line in served.lines)
        answer = client.get(f"{served.url}/api/controller/models/")
        assert answer.status_code == 404


def test_a_watch_over_tls(files: Authority) -> None:
    with serving(tls=files) as served, httpx.Client(verify=files.trusting(), trust_env=False, timeout=30) as client:
        with client.stream("GET", f"{served.url}/api/v1/watch") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: ready"
            served.register()
            assert next(line for line in lines if line.startswith("event: c")) == "event: change"
        assert served.end() == 0


def test_an_idle_connection_does_not_hold_up_the_end(files: Authority) -> None:
    """Its peer does not answer to the end of TLS: a controller would wait for it."""
    with serving(tls=files) as served, connected(served) as connection:
        connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert served.end() == 0
        assert served.errors() == []


def test_plain_http_gets_one_line_and_a_wrong_client_a_hint_in_the_log(files: Authority) -> None:
    with both(files) as (served, port):
        answer = httpx.get(f"http://127.0.0.1:{port}/api/health", trust_env=False)
        assert (answer.status_code, answer.text) == (400, "This port needs TLS: write https:// in the address")
        assert "it speaks HTTP without TLS" in served.wait_for_line(
            "a TLS handshake with the client at 127.0.0.1 failed"
        )
        for _ in range(3):
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"https://127.0.0.1:{port}/api/health", trust_env=False)
        assert "REQUESTS_CA_BUNDLE and SSL_CERT_FILE" in served.wait_for_line("it does not trust the certificate")
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECS) as connection:
            connection.sendall(b"\x00\x01\x02")
            assert connection.recv(100) == b""
        assert "it speaks no TLS" in served.wait_for_line("it speaks no TLS")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url.replace('http:', 'https:')}/api/health", trust_env=False)
        assert served.health().status_code == 200
        assert served.end() == 0
        assert served.errors() == []


def test_tls_before_1_2_is_refused(files: Authority) -> None:
    context = files.trusting()
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with both(files) as (served, port):
        with socket.create_connection(("127.0.0.1", port)) as raw, pytest.raises(ssl.SSLError):
            context.wrap_socket(raw, server_hostname="127.0.0.1")
        assert "its TLS is older than 1.2" in served.wait_for_line("a TLS handshake with")


def test_a_new_certificate_is_for_new_connections(files: Authority) -> None:
    with both(files) as (served, port), httpx.Client(verify=files.trusting(), trust_env=False) as client:
        kept = f"https://127.0.0.1:{port}/api/health"
        assert client.get(kept).status_code == 200
        before, new = serial(port, files), files.issue()
        files.write_cert(new)
        files.write_key(new)
        served.wait_for_line("the TLS certificate was replaced")
        assert serial(port, files) != before
        assert client.get(kept).status_code == 200
        files.write_cert(files.issue())
        assert "is not the key of" in served.wait_for_line("the one before it stays in use")
        status = httpx.get(f"{served.url}/api/v1/status", trust_env=False).json()
        assert "is not the key of" in status["tls"]["problem"]
        assert serial(port, files) != before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tls-cert", "{cert}"], "tls_cert is set, and tls_key is not: TLS needs both"),
        (["--tls-key", "{key}"], "tls_key is set, and tls_cert is not: TLS needs both"),
        (["--no-http"], "no_http is set, and TLS is not: set tls_cert and tls_key, or leave no_http out"),
        (
            ["--tls-cert", "{cert}", "--tls-key", "{key}", "--tls-port", "8000"],
            "port and tls_port are both 8000: choose another one for tls_port",
        ),
        (["--tls-cert", "{key}", "--tls-key", "{key}"], "tls_cert {key}: holds no certificate in PEM"),
        (["--tls-cert", "{cert}", "--tls-key", "/missing.key"], "tls_key /missing.key: no such file"),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(files: Authority, flags: list[str], message: str) -> None:
    names = {"cert": files.cert, "key": files.key}
    given = [flag.format(**names) for flag in flags]
    for mode in ([], ["--check"]):
        done = ctl("serve", *given, *mode, expect=2)
        (line,) = [line for line in done.err.splitlines() if "loopback" not in line]
        assert line.startswith(f"ctl: {message.format(**names)}")
        assert done.out == ""


def test_check_shows_both_listeners(files: Authority) -> None:
    assert ctl("serve", "--check", *files.flags).out.startswith(
        "all checks passed: http://127.0.0.1:8000 and https://127.0.0.1:8443, "
    )
    assert ctl("serve", "--check", "--no-http", *files.flags).out.startswith(
        "all checks passed: https://127.0.0.1:8443, "
    )


def test_check_says_once_that_no_client_accepts_the_certificate(files: Authority) -> None:
    files.write(files.issue(not_before=datetime(2024, 1, 1, tzinfo=UTC), not_after=datetime(2024, 2, 1, tzinfo=UTC)))
    done = ctl("serve", "--check", *files.flags, expect=2)
    assert done.err == (
        f"ctl: tls_cert {files.cert}: the certificate expired at 2024-02-01T00:00:00Z, and no client accepts it: put a "
        "valid one there\n"
    )


def test_a_key_that_others_can_read_warns(files: Authority) -> None:
    files.key.chmod(0o644)
    assert f"warning: tls_key {files.key}: others can read it (mode 0644)" in ctl("serve", "--check", *files.flags).err


def test_a_busy_port_names_its_flag(files: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = ctl("serve", "--port", str(free_port()), "--tls-port", port, *files.flags, expect=1)
    assert "choose another --tls-port" in done.err


def test_failed_handshakes_are_logged_once_a_minute_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    failed, now = FailedHandshakes(), time.monotonic()
    failed.count("it speaks no TLS", "10.0.0.1")
    failed.tick(now)
    for number in range(5):
        failed.count("it speaks no TLS", f"10.0.0.{number}")
        failed.tick(now + 1 + number)
    failed.count("its TLS is older than 1.2", "10.0.0.9")
    failed.tick(now + 10)
    failed.tick(now + LOG_SECS)
    assert [record.getMessage() for record in caplog.records] == [
        "a TLS handshake with the client at 10.0.0.1 failed: it speaks no TLS",
        "a TLS handshake with the client at 10.0.0.9 failed: its TLS is older than 1.2",
        "5 TLS handshakes, the last with the client at 10.0.0.4, failed: it speaks no TLS",
    ]


def test_the_oldest_handshake_ends_where_too_many_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake_module, "MAX_UNDER_WAY", 2)
    shared = Handshakes(Mock(), Mock(), set(), Mock())
    begun = []
    for number in range(3):
        one = Mock(address=f"10.0.0.{number}")
        one.drop.side_effect = partial(shared.under_way.pop, one)
        shared.begin(one)
        begun.append(one)
    assert [one.drop.called for one in begun] == [True, False, False]
    assert list(shared.under_way) == begun[1:]
