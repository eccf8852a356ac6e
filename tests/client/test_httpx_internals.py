"""The internals of httpx that the client uses are as it expects; and without them it works all the same."""

from __future__ import annotations

import subprocess
import sys
from time import monotonic
from typing import TYPE_CHECKING

import httpcore
import httpx
import pytest

from dbgpt_ctl.client.httpx_internals import is_no_http, set_network_backend, set_read_timeout
from tests.client.servers import behaving, read_request

if TYPE_CHECKING:
    import socket
    from pathlib import Path

CHANGED = "httpx changed its internals: adapt dbgpt_ctl/client/httpx_internals.py, or lower the pin in pyproject.toml"


def run(code: str, **environment: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def test_httpx_is_imported_without_its_command_line() -> None:
    code = "import sys, dbgpt_ctl.client.transport; print('httpx._main' in sys.modules, 'click' in sys.modules)"
    assert run(code) == ["False", "False"], CHANGED


def test_httpx_that_is_there_already_is_taken_as_it_is() -> None:
    code = "import sys, httpx, dbgpt_ctl.client.transport as t; print(t.httpx is httpx, 'httpx._main' in sys.modules)"
    assert run(code) == ["True", "True"]


def test_a_release_that_insists_on_its_command_line_is_imported_with_it(tmp_path: Path) -> None:
    package = tmp_path / "httpx"
    package.mkdir()
    (package / "__init__.py").write_text("from ._client import Client\nfrom ._main import main\nclass Response: ...\n")
    (package / "_client.py").write_text("class Client: ...\n")
    (package / "_main.py").write_text("def main(): ...\n")
    code = "from dbgpt_ctl.client.httpx_internals import httpx; print(httpx.Client.__name__, httpx.main.__module__)"
    assert run(code, PYTHONPATH=str(tmp_path)) == ["Client", "httpx._main"]


def test_the_read_timeout_of_a_body_can_be_set_once_the_head_is_there() -> None:
    def behave(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.recv(1)

    with (
        behaving(behave) as url,
        httpx.Client(timeout=5, trust_env=False) as client,
        client.stream("GET", url) as reply,
    ):
        began = monotonic()
        set_read_timeout(reply, 0.05)
        with pytest.raises(httpx.ReadTimeout):
            next(reply.iter_raw())
        assert monotonic() - began < 4, CHANGED


class Recorded(httpcore.NetworkBackend):
    """Refuses every connection, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def connect_tcp(self, *_args: object, **_kwargs: object) -> httpcore.NetworkStream:
        self.calls += 1
        raise httpcore.ConnectError("recorded")


@pytest.mark.parametrize("proxy", [None, "http://127.0.0.1:1"])
def test_a_network_backend_is_put_around_that_of_each_pool(proxy: str | None) -> None:
    recorded = Recorded()
    with httpx.Client(trust_env=False, mounts={"http://two": httpx.HTTPTransport(proxy=proxy)}) as client:
        set_network_backend(client, lambda _inner: recorded)
        for url in ("http://one", "http://two"):
            with pytest.raises(httpx.ConnectError, match="recorded"):
                client.get(url)
    assert recorded.calls == 2, CHANGED


def test_a_transport_without_a_pool_is_left_as_it_is() -> None:
    with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(204))) as client:
        set_network_backend(client, lambda _inner: Recorded())
        assert client.get("http://one").status_code == 204


def test_a_request_without_a_timeout_is_left_as_it_is() -> None:
    response = httpx.Response(200, request=httpx.Request("GET", "http://one"))
    set_read_timeout(response, 0.05)
    assert response.request.extensions == {}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", True),
        (b"\x15\x03\x03\x00\x02\x02\x50", True),
        (b"HTTP/1.1 200", False),
        (b"", False),
    ],
)
def test_what_came_before_an_error_is_seen(sent: bytes, *, expected: bool) -> None:
    def behave(connection: socket.socket, _number: int) -> None:
        read_request(connection)
        connection.sendall(sent)

    with (
        behaving(behave) as url,
        httpx.Client(trust_env=False) as client,
        pytest.raises(httpx.RemoteProtocolError) as caught,
    ):
        client.get(url)
    assert is_no_http(caught.value) is expected, CHANGED


def test_an_error_that_holds_nothing_of_what_came_is_of_a_connection_that_broke() -> None:
    assert not is_no_http(httpx.RemoteProtocolError("Server disconnected"))
