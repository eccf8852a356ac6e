"""The messages to systemd, received as systemd does: from a datagram socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import contextlib
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller.systemd import ServiceManager
from tests.support.ports import free_port
from tests.support.process import start

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_SECS = 30.0


def receiver(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(address)
    listening.settimeout(TIMEOUT_SECS)
    return listening


def rest(messages: socket.socket) -> list[bytes]:
    """What has come until now."""
    messages.setblocking(False)
    received = []
    with contextlib.suppress(BlockingIOError):
        while True:
            received.append(messages.recv(1024))
    return received


@pytest.mark.slow
@pytest.mark.parametrize("grace", ["0", "2"])
def test_a_controller_reports_its_start_its_loop_and_its_end(tmp_path: Path, grace: str) -> None:
    address = str(tmp_path / "notify")
    arguments = ("--port", str(free_port()), "--shutdown-grace-secs", grace)
    with receiver(address) as messages, start("serve", *arguments, env={"NOTIFY_SOCKET": address}) as process:
        try:
            assert messages.recv(1024) == b"READY=1\nWATCHDOG=1"
            assert messages.recv(1024) == b"READY=1\nWATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            while (message := messages.recv(1024)) != b"STOPPING=1":
                assert message == b"READY=1\nWATCHDOG=1"
            assert process.wait(TIMEOUT_SECS) == 0
            assert set(rest(messages)) <= {b"WATCHDOG=1", b"STOPPING=1"}, "it said that it is ready while it left"
        finally:
            process.kill()


@pytest.mark.slow
def test_a_controller_that_cannot_start_reports_nothing(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    wrong = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", str(tmp_path))
    with receiver(address) as messages, start("serve", *wrong, env={"NOTIFY_SOCKET": address}) as process:
        assert process.wait(TIMEOUT_SECS) == 1
        assert b"READY=1\nWATCHDOG=1" not in rest(messages)


def test_a_name_without_a_file_is_an_address_too(tmp_path: Path) -> None:
    name = f"dbgpt-ctl-{tmp_path.name}-{free_port()}"
    with receiver(f"\0{name}") as messages:
        ServiceManager(f"@{name}").leaving()
        assert messages.recv(1024) == b"STOPPING=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all"])
def test_without_a_service_manager_nothing_happens(address: str | None) -> None:
    ServiceManager(address).serving()


def test_a_service_manager_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with receiver(address) as messages:
        manager = ServiceManager(address)
        for _ in range(10_000):  # more than the queue of a socket takes
            manager.serving()
        assert messages.recv(1024) == b"READY=1\nWATCHDOG=1"
