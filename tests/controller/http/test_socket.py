"""The listening socket, and the one line where there can be none."""

from __future__ import annotations

import socket

import pytest

from dbgpt_ctl.controller.http.socket import listening_socket
from dbgpt_ctl.errors import CannotListen


@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", socket.AF_INET), ("localhost", None)])
def test_it_listens_on_the_first_address_of_the_host(host: str, family: socket.AddressFamily | None) -> None:
    with listening_socket(host, 0) as sock:
        assert family is None or sock.family is family
        with socket.create_connection(sock.getsockname()[:2], timeout=10):
            pass


def test_a_busy_port_names_the_process() -> None:
    with listening_socket("127.0.0.1", 0) as sock, pytest.raises(CannotListen, match=r"in use by .+ \(process \d+\)"):
        listening_socket("127.0.0.1", sock.getsockname()[1])


def test_a_host_that_is_no_address_of_this_machine() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.1 port 0"):
        listening_socket("192.0.2.1", 0)
