"""Somebody who is not the database listens at its address."""

from __future__ import annotations

import ssl
import struct
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.support.hostile_mysql import HostileMySQL, hostile_mysql
from tests.support.memory import MB, peak_bytes
from tests.support.ports import free_port
from tests.support.process import ctl, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hostile_mysql import Conversation

PASSWORD = "a-very-s3cret-password"
LONGEST_SECS = 50.0
LONGEST_LINE = 600
LARGEST_BYTES = 250 * MB
CHECK = ("db", "check")
COMMANDS = (("serve",), ("serve", "--check"), CHECK, ("db", "upgrade"))
LOGINS = ("mysql_clear_password", "dialog", "sha256_password", "mysql_old_password")


@pytest.fixture(scope="module")
def own_certificate() -> ssl.SSLContext:
    """Of an authority that nobody was told to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def environment_of(server: HostileMySQL) -> dict[str, str]:
    values = {"TYPE": "mysql", "HOST": "127.0.0.1", "PORT": str(server.port), "NAME": "ctl", "USER": "ctl"}
    values["PASSWORD"] = PASSWORD
    of_database = {f"CONTROLLER_REGISTRY_DB_{name}": value for name, value in values.items()}
    return {"CONTROLLER_REGISTRY_TYPE": "database", **of_database}


@pytest.mark.parametrize(
    ("command", "asked"), [*((command, LOGINS[0]) for command in COMMANDS), *((CHECK, login) for login in LOGINS[1:])]
)
def test_the_password_is_not_told_to_a_server_that_asks(command: tuple[str, ...], asked: str) -> None:
    with hostile_mysql(HostileMySQL(asked=asked)) as server:
        free = {"CONTROLLER_PORT": str(free_port())} if command[0] == "serve" else {}
        done = ctl(*command, env=environment_of(server) | free, expect=1)
    assert server.asks
    assert not server.learned(PASSWORD)
    (line,) = [line for line in done.err.splitlines() if "certificate" in line]
    assert f"127.0.0.1:{server.port}/ctl: the server asks for the password itself ({asked})" in line
    assert "registry_db_ssl_ca" in line
    assert PASSWORD not in done.out + done.err


@pytest.mark.parametrize(
    ("greeted", "asked", "code"),
    [("dialog", "mysql_clear_password", 1), ("sha256_password", None, 3), ("sha256_password", "sha256_password", 1)],
)
def test_neither_is_it_over_tls_with_any_certificate(
    own_certificate: ssl.SSLContext, greeted: str, asked: str | None, code: int
) -> None:
    """A client of `sha256_password` sends the password with its first message, if it is sure of the server."""
    with hostile_mysql(HostileMySQL(greeted=greeted, asked=asked, context=own_certificate)) as server:
        ctl("db", "check", env=environment_of(server), expect=code)
    assert server.asks
    assert not server.learned(PASSWORD)


@pytest.mark.parametrize("tls", [False, True])
def test_the_default_of_mysql_8_is_answered_with_a_warning(own_certificate: ssl.SSLContext, tls: bool) -> None:
    """Without it most servers of MySQL 8 could not be used: it is a decision, see docs/operating.md."""
    context = own_certificate if tls else None
    login = "caching_sha2_password"
    with hostile_mysql(HostileMySQL(greeted=login, asked=login, context=context)) as server:
        done = ctl("serve", env=environment_of(server) | {"CONTROLLER_PORT": str(free_port())}, expect=1)
    assert server.learned(PASSWORD)
    assert "asked for the password itself (caching_sha2_password)" in done.err
    assert "set registry_db_ssl_ca" in done.err
    assert PASSWORD not in done.err


# --- a server that sends what no server sends -------------------------------------------------------------------------


def nothing(talk: Conversation) -> None:
    talk.receive()


def garbage(talk: Conversation) -> None:
    talk.send(b"\x0a" + b"5" * 40)
    talk.receive()


def a_byte_now_and_then(talk: Conversation) -> None:
    talk.sock.sendall(b"\xff\xff\x00\x00\x0a")
    while True:
        talk.sock.sendall(b"8")
        sleep(0.5)


def packets_without_end(talk: Conversation) -> None:
    for number in range(1000):
        talk.sock.sendall(b"\xff\xff\xff" + bytes([number % 256]) + b"\x0a" * 0xFFFFFF)


def a_long_error_with_controls(talk: Conversation) -> None:
    talk.send(b"\xff" + struct.pack("<H", 1040) + b"#08004" + b"\x1b[2J\r\nToo many connections " * 30_000)


BEHAVIOURS = (nothing, garbage, a_byte_now_and_then, packets_without_end, a_long_error_with_controls)


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.__name__)
def test_what_it_sends_is_bounded(behaviour: Callable[[Conversation], None]) -> None:
    """In memory, in time, and in what is shown of it. The controller waits for its database meanwhile."""
    with hostile_mysql(HostileMySQL(behaviour=behaviour)) as server:
        began = monotonic()
        done = ctl("db", "check", env=environment_of(server), expect=3)
        assert monotonic() - began < LONGEST_SECS
        process = start("serve", env=environment_of(server) | {"CONTROLLER_PORT": str(free_port())})
        try:
            assert process.stderr
            line = next(line for line in process.stderr if f":{server.port}/ctl: " in line)
            assert peak_bytes(process.pid) < LARGEST_BYTES
        finally:
            process.kill()
            process.communicate()
    for text in (done.err, line):
        assert len(text) < LONGEST_LINE
        assert text.rstrip("\n").isprintable()
        assert "Traceback" not in text
