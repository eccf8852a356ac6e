"""Real listening sockets on loopback: controllers that work, and some that do not."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.client.clients import OBJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Behave = Callable[[socket.socket, int], None]
    """Serves one connection; the number counts them from 0."""

_NO_LINGER = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER with no time: `close` resets the connection."""
LIST_REPLY = json.dumps([OBJECT]).encode()


class Working(ThreadingHTTPServer):
    """Answers health, lists one instance, and answers true to every other call. `lines` are the request lines."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _WorkingHandler)
        self.lines: list[str] = []
        self.connections: set[tuple[str, int]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _WorkingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Working

    def answer(self) -> None:
        self.server.lines.append(self.requestline)
        self.server.connections.add(self.client_address)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer: Any = {"status": "ok"} if self.path.endswith("/health") else [OBJECT] if self.command == "GET" else True
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def log_message(self, *_args: Any) -> None:
        """Nothing."""


@contextmanager
def working() -> Iterator[Working]:
    with Working() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def black_hole() -> Iterator[str]:
    """Accepts connections and requests, and never answers, as a frozen process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield _url(server)


@contextmanager
def unconnectable() -> Iterator[str]:
    """Connecting hangs, as to a host that drops packets, because the queue of the listening socket is full."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(server.getsockname())
        yield _url(server)


@contextmanager
def behaving(behave: Behave) -> Iterator[str]:
    """Serves each connection with `behave`, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads: list[threading.Thread] = []
        connections: list[socket.socket] = []

        def serve(connection: socket.socket, number: int) -> None:
            with connection, suppress(OSError):
                behave(connection, number)

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection, len(threads))))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield _url(server)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection, thread in zip(connections, threads, strict=True):
                with suppress(OSError):  # it is closed already
                    connection.shutdown(socket.SHUT_RDWR)
                thread.join()


def resets(connection: socket.socket, _number: int) -> None:
    """Resets the connection in place of an answer."""
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def closed_port() -> str:
    """The URL of a port that no socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return _url(server)


TLS_HANDSHAKE = b"\x16"
"""The first byte of each TLS connection."""


def read_request(connection: socket.socket) -> bytes:
    """A request without a body; empty when the client is gone, or speaks TLS: every server hangs up then."""
    received = b""
    while b"\r\n\r\n" not in received:
        if received.startswith(TLS_HANDSHAKE):
            return b""
        chunk = connection.recv(4096)
        if not chunk:
            return b""
        received += chunk
    return received


def reply(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _url(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"
