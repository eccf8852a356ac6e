"""A controller whose --remote-addr leads back to it, under any spelling and over any detour.

Such a controller did not end, and passed each request to itself again and again until the timeout.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.client.servers import behaving
from tests.support.dbgpt_process import Process
from tests.support.memory import MB, peak_bytes
from tests.support.ports import free_port
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Protocol

    from tests.hostile.conftest import Serve, Served

    class Start(Protocol):
        def __call__(self, port: int, *remote: str) -> Process: ...


END_SECS = 45.0
LARGEST_BYTES = 150 * MB
MOST_CONNECTIONS = 100


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a controller that forwards, and does not wait until it is healthy."""
    with ExitStack() as stack:

        def begin(port: int, *remote: str) -> Process:
            argv = [*CTL, "serve", "--port", str(port), "--remote-addr", ",".join(remote)]
            process = Process(f"ctl-{port}", argv, environment({}), tmp_path)
            stack.callback(process.kill)
            return process

        yield begin


def refusal(process: Process) -> str:
    """The last line of a controller that ends by itself with exit code 1."""
    assert process.popen.wait(END_SECS) == 1, process.tail()
    lines = process.log.read_text(encoding="utf-8").splitlines()
    assert not any("Traceback" in line for line in lines), process.tail()
    return lines[-1]


class Relay:
    """A proxy whose target can be changed, and which counts its connections."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0

    def __call__(self, connection: socket.socket, _number: int) -> None:
        self.connections += 1
        with socket.create_connection(("127.0.0.1", self.port)) as other:
            back = threading.Thread(target=self._copy, args=(other, connection))
            back.start()
            self._copy(connection, other)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                target.sendall(received)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "spelling", ["http://127.0.0.1:{}", "http://LOCALHOST:{}", "http://127.0.0.1:1,http://127.0.0.1:{}"]
)
def test_its_own_address_is_refused(start: Start, spelling: str) -> None:
    port = free_port()
    line = refusal(start(port, spelling.format(port)))
    assert f"{port} leads back to this controller" in line
    assert "--remote-addr" in line


def test_itself_behind_a_proxy_is_refused(start: Start) -> None:
    port = free_port()
    with behaving(Relay(port)) as url:
        assert "leads back to this controller" in refusal(start(port, url))


def test_a_detour_is_refused(start: Start) -> None:
    one, two = free_port(), free_port()
    start(one, f"http://127.0.0.1:{two}")
    line = refusal(start(two, f"http://127.0.0.1:{one}"))
    assert f"http://127.0.0.1:{one} leads back to this controller, directly or over others" in line


def test_two_that_forward_to_a_registry_are_no_loop(serve: Serve) -> None:
    last = serve()
    middle = serve("--remote-addr", last.url)
    first = serve("--remote-addr", f"{middle.url},{last.url}")
    assert httpx.get(f"{first.url}/api/controller/models", timeout=10).json() == []


def test_a_loop_that_arises_later_is_in_health_and_nothing_grows(serve: Serve) -> None:
    last = serve()
    relay = Relay(last.port)
    with behaving(relay) as url:
        controller: Served = serve("--remote-addr", url)
        relay.port = controller.port
        with suppress(ProcessLookupError):
            last.process.kill()
        deadline = monotonic() + 30
        while (answer := controller.health()).status_code == httpx.codes.OK and monotonic() < deadline:
            sleep(0.1)
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert "forwarded the request itself" in answer.json()["detail"]
        before = relay.connections
        for _ in range(20):
            answer = httpx.get(f"{controller.url}/api/controller/models", timeout=10)
            assert answer.status_code == httpx.codes.LOOP_DETECTED
            assert answer.json()["code"] == "forwards_to_itself"
        assert relay.connections - before <= MOST_CONNECTIONS
        assert peak_bytes(controller.pid) <= LARGEST_BYTES
        controller.process.kill()  # its connections end before the relay does
