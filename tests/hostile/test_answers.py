"""Hostile answers: `ctl`, at TAB too, and a controller that forwards, against servers that are no controllers.

Each attack needed up to 1.9 GB, or had no end.
"""

from __future__ import annotations

import json
import threading
import zlib
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.client.servers import behaving, read_request, working
from tests.support.auth_reports import report, row
from tests.support.measured import measured
from tests.support.memory import MB, peak_bytes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from tests.hostile.conftest import Serve

    Attack = Callable[[socket.socket], None]

LARGEST_BYTES = 150 * MB
LARGEST_FORWARDING_BYTES = 300 * MB
"""A server takes 60 MB, one list 100 MB, and each connection that waits a few."""
LONGEST_SECS = 5.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ITEM = b'{"model_name":"a@llm","host":"h","port":1,"healthy":true,"enabled":true},'
ZEROS = bytes(10 * MB)


def forever(connection: socket.socket, chunk: bytes) -> None:
    while True:
        connection.sendall(chunk)


def endless_list(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n[")
    forever(connection, ITEM * 10_000)


def endless_chunks(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    forever(connection, b"%x\r\n%b\r\n" % (MB, bytes(MB)))


def huge_length(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Length: 99999999999999\r\n\r\n")
    forever(connection, bytes(MB))


def endless_error(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    forever(connection, bytes(MB))


def gzip_bomb(connection: socket.socket) -> None:
    """Two gigabytes of zeros."""
    connection.sendall(HEAD + b"Content-Encoding: gzip\r\n\r\n")
    _bomb(connection, 31)


def deflate_bomb_called_twice(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Content-Encoding: br\r\nContent-Encoding: deflate\r\n\r\n")
    _bomb(connection, 15)


def _bomb(connection: socket.socket, window_bits: int) -> None:
    compressor = zlib.compressobj(1, zlib.DEFLATED, window_bits)
    for _ in range(200):
        connection.sendall(compressor.compress(ZEROS))
    connection.sendall(compressor.flush())


def endless_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    forever(connection, b"X-Filler: " + b"x" * 1000 + b"\r\n")


def one_endless_header(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Filler: ")
    forever(connection, b"x" * MB)


def endless_interim_answers(connection: socket.socket) -> None:
    forever(connection, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)


def endless_trailers(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n")
    forever(connection, b"X-Filler: " + b"x" * 1000 + b"\r\n")


def deep_json(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    for _ in range(90):
        connection.sendall(b"[" * MB)


def deep_field(connection: socket.socket) -> None:
    """Python reads it, and cannot print it as YAML."""
    connection.sendall(HEAD + b'\r\n[{"model_name":"a@llm","host":"h","port":1,"x":' + b"[" * 900 + b"]" * 900 + b"}]")


def one_string(connection: socket.socket) -> None:
    connection.sendall(HEAD + b'\r\n"')
    for _ in range(100):
        connection.sendall(b"a" * MB)
    connection.sendall(b'"')


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        endless_list,
        endless_chunks,
        huge_length,
        endless_error,
        gzip_bomb,
        deflate_bomb_called_twice,
        endless_headers,
        one_endless_header,
        endless_interim_answers,
        endless_trailers,
        deep_json,
        deep_field,
        one_string,
    )
}
VERBS = {
    "list": ("models", "list", "-o", "yaml"),
    "status": ("status",),
    "why": ("why", "a"),
    "events": ("events",),
    "watch": ("events", "--watch"),
    "health": ("health",),
    "auth": ("auth", "status"),
}


@pytest.fixture
def hostile(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server with this attack for every request."""
    attack: Attack = request.param

    def behave(connection: socket.socket, _number: int) -> None:
        if read_request(connection):
            attack(connection)

    with behaving(behave) as url:
        yield url


def each_attack(names: tuple[str, ...] = tuple(ATTACKS)) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("hostile", [ATTACKS[name] for name in names], ids=names, indirect=True)


@each_attack()
def test_a_list_ends_in_one_line(hostile: str) -> None:
    done = measured("models", "list", "-o", "yaml", "-a", hostile, "--request-timeout", "10s")
    assert done.code in {1, 3}, done
    assert done.err.count("\n") == 1, done.err
    assert hostile in done.err
    assert done.peak <= LARGEST_BYTES


@each_attack(("endless_list", "gzip_bomb", "one_endless_header", "deep_json", "one_string"))
@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "list"])
def test_every_verb_ends_without_a_traceback(hostile: str, verb: str) -> None:
    done = measured(*VERBS[verb], "-a", hostile, "--request-timeout", "5s")
    assert done.code != 0, done
    assert "Traceback" not in done.err
    assert "unexpectedly" not in done.err
    assert done.peak <= LARGEST_BYTES


def a_million_refusals(connection: socket.socket) -> None:
    """They would take 1.5 GB and 15 seconds."""
    before, after = json.dumps(report(row())).split(json.dumps(row()))
    connection.sendall(HEAD + b"\r\n" + before.encode())
    for _ in range(1000):
        connection.sendall((json.dumps(row()) + ",").encode() * 1000)
    connection.sendall(json.dumps(row()).encode() + after.encode())


@pytest.mark.parametrize("hostile", [a_million_refusals], indirect=True)
def test_the_refusals_of_a_controller_are_bounded(hostile: str) -> None:
    done = measured("auth", "status", "-a", hostile, "--request-timeout", "20s")
    assert done.code == 1, done
    assert "its answer is larger than 16 MB" in done.err
    assert done.peak <= LARGEST_BYTES


@each_attack()
def test_tab_completes_nothing_and_says_nothing(hostile: str) -> None:
    env = {"_CTL_COMPLETE": "complete_zsh", "CONTROLLER_ADDRESS": hostile}
    done = measured("models", "get", "", env=env)
    assert done.err == ""
    assert done.out.strip() == "words"
    assert done.peak <= LARGEST_BYTES


def slowly(first: bytes, part: bytes) -> Attack:
    """Sends the first bytes, then a part each second, as long as the client is there."""

    def attack(connection: socket.socket) -> None:
        connection.sendall(first)
        connection.settimeout(1.0)
        while True:
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                connection.sendall(part)

    return attack


SLOW = {
    "a header a second": slowly(b"HTTP/1.1 200 OK\r\n", b"X-Slow: 1\r\n"),
    "a byte of a header a second": slowly(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "a byte of the body a second": slowly(HEAD + b"\r\n[", b" "),
    "nothing": slowly(b"", b""),
}


@pytest.mark.parametrize("hostile", SLOW.values(), ids=SLOW, indirect=True)
def test_the_next_controller_answers_within_the_timeout(hostile: str) -> None:
    with working() as good:
        done = measured("models", "list", "-o", "name", "-a", f"{hostile},{good.url}", "--request-timeout", "2s")
    assert done.code == 0, done
    assert done.out.startswith("qwen")
    assert done.seconds < LONGEST_SECS


@pytest.mark.parametrize("hostile", [deep_json, deep_field, endless_list, gzip_bomb], indirect=True)
def test_after_a_bad_answer_the_next_controller_is_asked(hostile: str) -> None:
    with working() as good:
        done = measured("models", "list", "-o", "name", "-a", f"{hostile},{good.url}", "--request-timeout", "20s")
    assert done.code == 0, done
    assert done.out.startswith("qwen")


def test_a_controller_that_forwards_needs_no_more_memory_for_many_callers(serve: Serve) -> None:
    """The controller behind it is there at first. Then each of its lists is endless."""
    with ExitStack() as stack:
        turned = threading.Event()

        def behave(connection: socket.socket, _number: int) -> None:
            while request := read_request(connection):
                if turned.is_set():
                    endless_list(connection)
                body = b'{"status":"ok"}' if b"/health" in request.split(b"\r\n")[0] else b"[]"
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

        controller = serve("--remote-addr", stack.enter_context(behaving(behave)))
        turned.set()
        url = f"{controller.url}/api/controller/models"
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(httpx.get(url, timeout=30).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [503] * 8
        assert peak_bytes(controller.pid) <= LARGEST_FORWARDING_BYTES
        assert "Traceback" not in controller.process.tail()
