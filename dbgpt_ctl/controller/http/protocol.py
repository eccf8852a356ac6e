"""HTTP/1.1 as uvicorn speaks it, with the bounds that uvicorn lacks, and prepared answers in one step.

This is the one module that uses the internals of uvicorn: its protocol class over httptools, and the methods of its
server that have no documentation. Importing it raises ImportError when a part is missing; `server` then runs plain
uvicorn and logs a warning. tests/controller/http/test_protocol.py checks that the parts still behave as this module
expects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from dbgpt_ctl.controller.http.connections import Admission, ConnectionFigures, LimitLog
from dbgpt_ctl.controller.http.handshake import Handshake, Handshakes
from dbgpt_ctl.controller.http.prepared import SEND_PREPARED
from dbgpt_ctl.domain.fields import canonical_host

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator

    from dbgpt_ctl.controller.http.prepared import PreparedResponse
    from dbgpt_ctl.controller.http.tls import TlsListener

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_MESSAGE_BYTES = 192 * 1024
"""Of a head, a body of the largest size, and the framing of its chunks."""
MAX_PIPELINED = 100
"""Requests that one connection may send ahead of the answers. DB-GPT's clients and httpx send none ahead."""
TOO_MANY_CONNECTIONS = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 62\r\n"
    b"connection: close\r\n\r\nThis controller has as many connections as it may; try another"
)
MAX_COPIED_BYTES = 64 * 1024
"""A longer body is sent as it is: many readers of a list share its bytes."""
PAUSE_BYTES = 1
"""A writer waits from this many bytes on that the system has not taken. With 64 KiB, uvicorn's default, each peer that
does not read would keep that much memory, and over TLS nine times as much.
"""
MAX_REQUEST_SECS = 10.0
MAX_STALL_SECS = 30.0
MAX_LINGER_SECS = 1.0
"""How long a connection over TLS waits for its peer's end, after its own."""
TICKS_PER_SECOND = 10
"""How often uvicorn calls `Server.on_tick`."""
INTERNALS = {
    HttpToolsProtocol: (
        "connection_made",
        "data_received",
        "on_message_begin",
        "on_headers_complete",
        "on_message_complete",
        "send_400_response",
        "_unsupported_upgrade_warning",
        "shutdown",
    ),
    uvicorn.Server: ("capture_signals", "startup", "on_tick", "shutdown"),
}


def missing_internals() -> list[str]:
    """The parts of uvicorn that this module uses and this version does not have."""
    return [
        f"{owner.__name__}.{name}" for owner, names in INTERNALS.items() for name in names if not hasattr(owner, name)
    ]


if missing_internals():
    raise ImportError(f"uvicorn {uvicorn.__version__} has no {', '.join(missing_internals())}")


class BoundedTransport:
    """A transport that makes its writer wait as soon as the peer leaves a byte unread that the system does not take.

    So no more waits in it than the last write.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, below: asyncio.Transport | None = None
    ) -> None:
        """`below`: the transport of TCP, where `transport` is the one of TLS."""
        self._transport = transport
        self._loop = loop
        self._below = below
        for each in (transport,) if below is None else (transport, below):
            each.set_write_buffer_limits(PAUSE_BYTES)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Without the socket, so that uvicorn takes the addresses that the transport knows. From a socket it would take
        them with six system calls. An address is a host and a port, for IPv6 too, as uvicorn expects it.
        """
        if name == "socket":
            return default
        found = self._transport.get_extra_info(name, default)
        return found[:2] if isinstance(found, tuple) else found

    def write(self, *pieces: bytes) -> None:
        """Sends the pieces in one step, or nothing if the connection closes."""
        if self._transport.is_closing():
            return
        if len(pieces[-1]) > MAX_COPIED_BYTES:
            self._transport.writelines(pieces)
        else:
            self._transport.write(b"".join(pieces))

    def close(self) -> None:
        """Closes once all is sent. TLS waits for the peer to close too: a second, once all is sent."""
        self._transport.close()
        if self._below is not None and not self._below.is_closing():
            self._loop.call_later(MAX_LINGER_SECS, self._end_of_tls)

    def _end_of_tls(self) -> None:
        if self._below is None or self._below.is_closing():
            return
        if self.get_write_buffer_size():  # a reader that is slow; `close_if_stalled` ends one that does not read
            self._loop.call_later(MAX_LINGER_SECS, self._end_of_tls)
        else:
            self._below.abort()

    def write_eof(self) -> None:
        """Closes this direction only. TLS cannot do that, and both stay open."""
        if self._below is None:
            self._transport.write_eof()

    def get_write_buffer_size(self) -> int:
        """The bytes that the system has not taken."""
        below = 0 if self._below is None else self._below.get_write_buffer_size()
        return self._transport.get_write_buffer_size() + below


class RequestRefused(Exception):
    """Raised in a callback of the parser, so that uvicorn answers 400 and closes."""


class NoTrailers(list[tuple[bytes, bytes]]):
    """Stands in for a request's headers once they are complete: uvicorn would append trailers to them without a bound,
    and no client of a controller sends any.
    """

    def append(self, _header: tuple[bytes, bytes]) -> None:
        raise RequestRefused("trailers")


NO_TRAILERS = NoTrailers()


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request with these headers has a body. The parser ends a request with `Upgrade` after its head, and
    would take a body for the next request: behind a proxy, for one that the proxy has not seen.
    """
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
        for name, value in headers
    )


class BoundedState(ServerState):
    """What the connections of a server share, with their limit."""

    def __init__(self, limit: int = sys.maxsize) -> None:
        super().__init__()
        self.figures = ConnectionFigures(self.connections, limit)
        self.admission = Admission(self.figures)


@lru_cache(maxsize=16)
def _start_of_answer(status: int, *headers: tuple[bytes, bytes]) -> bytes:
    """The status line, and the headers that the server adds to each answer; they change each second, with the date."""
    return b"".join((STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers)))


def send_prepared(send: Any, response: PreparedResponse) -> bool:
    """Does at once what uvicorn's `send` does with the two messages of the response. See SEND_PREPARED."""
    cycle = getattr(send, "__self__", None)
    if not isinstance(cycle, RequestResponseCycle) or cycle.response_started or cycle.flow.write_paused:
        return False
    if cycle.disconnected:
        return True
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
    transport = cast("BoundedTransport", cycle.transport)
    start = _start_of_answer(response.status_code, *cycle.default_headers)
    # A client takes the body of an answer to HEAD for the beginning of its next answer.
    transport.write(start, response.head, end, b"" if cycle.scope["method"] == "HEAD" else response.content)
    cycle.message_event.set()
    if not cycle.keep_alive:
        transport.close()
    cycle.on_response()
    return True


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. It bounds the bytes and the time of a request, and how long a peer may leave its answer.

    A head (method, URL and headers) has at most MAX_HEAD_BYTES, a whole message MAX_MESSAGE_BYTES, each plus one read,
    because the parser does not say where in a read a message begins. Trailers are refused.

    Uvicorn collects heads and trailers without a bound: one connection could take all memory, and, because the parts of
    a header are joined anew at each read, block the event loop for any length of time. This class is for safety, not
    for speed.
    """

    server_state: BoundedState
    below: asyncio.Transport | None = None
    """The transport of TCP where the connection is one over TLS. Set it before `connection_made`."""
    _in_head = False
    _message_bytes: int | None = None
    """Bytes of a message that is not complete, without the read in which it began; None between two messages."""
    _discards = False
    """Nothing more is read: the message was answered and is too large, or it offered another protocol."""
    _request_since: float | None = None
    """The loop's time since when the first request, or the rest of a request, is awaited; None while none is."""
    _unsent: tuple[int, float] = (0, 0.0)
    """How many bytes the peer has not taken, and the loop's time since when there are that many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", BoundedTransport(transport, self.loop, self.below)))
        self._request_since = self.loop.time()
        self.server_state.admission.admit(self, self._request_since)

    def data_received(self, data: bytes) -> None:
        if self._discards:
            return
        if self._message_bytes is None:
            super().data_received(data)
            if self._request_since is None and self.timeout_keep_alive_task is None and self._is_idle():
                self._request_since = self.loop.time()  # empty lines: uvicorn has stopped the timer of an idle peer
            return
        self._message_bytes += len(data)
        super().data_received(data)
        if self._message_bytes and self._message_bytes > (MAX_HEAD_BYTES if self._in_head else MAX_MESSAGE_BYTES):
            self._refuse_message()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RequestRefused("too many requests before their answers")
        self._in_head = True
        self._message_bytes = 0
        self._request_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        upgrade = self.parser.should_upgrade()
        if upgrade and has_body(self.headers):
            raise RequestRefused("an upgrade with a body")
        super().on_headers_complete()
        self._in_head = False
        self.headers = NO_TRAILERS
        self.scope[SEND_PREPARED] = send_prepared  # type: ignore[literal-required]
        if upgrade:  # the request is answered as if it offered no other protocol
            self.cycle.keep_alive = False
            self._discards = True

    def on_message_complete(self) -> None:
        self._request_since = self._message_bytes = None
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """An answer that has begun cannot be followed by another one: then the connection is closed without it."""
        if not self._in_head and self._message_bytes is not None and self.cycle.response_started:
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Uvicorn would log two lines for each such request, and advise to install a library."""

    def _is_idle(self) -> bool:
        """Whether every request that was read is answered."""
        return self.cycle is not None and self.cycle.response_complete

    def drop(self) -> None:
        """Ends the connection without what waits for its peer. The answer under way ends by itself."""
        self.transport.abort()

    def eviction_rank(self) -> tuple[int, float] | None:
        """Whether the connection may close to make room: its rank and the loop's time since when it has it, the least
        first. None while a request is being answered.
        """
        if self.timeout_keep_alive_task is not None:
            return 0, self.timeout_keep_alive_task.when()
        if self._request_since is not None:
            return 1, self._request_since
        return (2, self._unsent[1]) if self.flow.write_paused else None

    def evict(self) -> None:
        """Closes a connection that has an `eviction_rank`."""
        self.connections.discard(self)  # now: uvicorn does it in a later turn of the event loop
        if self.flow.write_paused or self.below is not None:  # TLS would wait for the peer
            self.transport.abort()
        else:
            self.transport.close()

    def refuse(self) -> None:
        """Closes a new connection because there are too many."""
        self.connections.discard(self)
        self.transport.write(TOO_MANY_CONNECTIONS)
        self.transport.close()

    def _refuse_message(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self.send_400_response("The head of the request is too large.")
        elif not self.cycle.response_complete:
            self.send_400_response("The request is too large.")
        else:  # with 413, most likely; to close at once could lose that answer, because its client still sends
            self._discards = True
            self.transport.write_eof()

    def close_if_stalled(self) -> None:
        """Closes the connection when a request on it is not complete after MAX_REQUEST_SECS, or when its peer has taken
        none of the bytes that wait for it for MAX_STALL_SECS.
        """
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        elif now - self._unsent[1] > MAX_STALL_SECS:
            self.server_state.figures.readers_dropped += 1
            self.drop()
            return
        if self._request_since is not None and now - self._request_since > MAX_REQUEST_SECS:
            self.transport.close()

    def shutdown(self) -> None:
        """Ends the connection, without waiting for a request that is not complete."""
        if self._request_since is None:
            super().shutdown()
        else:
            self.transport.close()


class BoundedServer(uvicorn.Server):
    """Uvicorn's server for at most `limit` connections of `BoundedHttpProtocol`. It leaves signals to the caller.

    Uvicorn has one TLS context for all sockets. So it serves those without TLS, and `tls` is served here.
    """

    def __init__(self, config: uvicorn.Config, limit: int = sys.maxsize, tls: TlsListener | None = None) -> None:
        super().__init__(config)
        self.server_state: BoundedState = BoundedState(limit)
        self._limit_log = LimitLog(self.server_state.figures)
        self._tls = tls
        self._handshakes: Handshakes | None = None
        if tls is not None:
            state = self.server_state
            self._handshakes = Handshakes(tls.certificate, state.admission, state.connections, self._over_tls)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would raise the signal again at the end, but SIGTERM is an orderly end here, with exit code 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Logs the addresses, once requests are served."""
        await super().startup(sockets)
        if self.should_exit:
            return
        for sock in sockets or []:
            log.info("listening on http://%s", _address(sock), extra={"event": "controller.listening"})
        if self._tls is not None and self._handshakes is not None:
            begin, loop = partial(Handshake, self._handshakes), asyncio.get_running_loop()
            self.servers.append(await loop.create_server(begin, sock=self._tls.sock, backlog=self.config.backlog))
            log.info("listening on https://%s", _address(self._tls.sock), extra={"event": "controller.listening"})

    def _over_tls(self, below: asyncio.Transport) -> BoundedHttpProtocol:
        protocol = BoundedHttpProtocol(self.config, self.server_state, self.lifespan.state)
        protocol.below = below
        return protocol

    async def on_tick(self, counter: int) -> bool:
        """Once a second: ends connections that have stalled, logs what the limits did, looks for a new certificate."""
        if counter % TICKS_PER_SECOND == 0:
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.server_state.figures.connections):
                connection.close_if_stalled()
            self._limit_log.tick(now)
            if self._handshakes is not None:
                self._handshakes.failed.tick(now)
                self._handshakes.certificate.look()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the application also when the end is forced: uvicorn would let it be cancelled, with tracebacks."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"{canonical_host(host)}:{port}"
