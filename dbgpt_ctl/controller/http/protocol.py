"""HTTP/1.1 as uvicorn speaks it, with the bounds that uvicorn lacks, and answers that leave in one packet.

This is the one module that uses the internals of uvicorn: its protocol class over httptools, and the methods of its
server that have no documentation. Importing it raises ImportError when a part is missing; `server` then runs plain
uvicorn and logs a warning. tests/controller/http/test_protocol.py checks that the parts still behave as this module
expects.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dbgpt_ctl.domain.fields import canonical_host

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Iterator

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_REQUEST_SECS = 10.0
MAX_STALL_SECS = 30.0
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


class OnePacketTransport:
    """A transport that sends what is written to it in one turn of the event loop as one packet.

    Uvicorn writes the head of an answer and then its body, which makes two system calls and two packets, and wakes the
    client twice. In one packet, a heartbeat costs 39 instead of 46 microseconds of CPU time, client and server
    together.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pending: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Sends `data` at the end of this turn of the event loop."""
        if not self._pending:
            self._loop.call_soon(self._send)
        self._pending.append(data)

    def close(self) -> None:
        """Sends what was written, then closes."""
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._pending and not self._transport.is_closing():  # the client may have closed the connection
            self._transport.write(b"".join(self._pending))
        self._pending.clear()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. Refuses a head (method, URL and headers) that is larger than MAX_HEAD_BYTES plus one read.

    Uvicorn collects a head without a bound: one connection could take all memory, and, because the parts of a URL are
    joined anew at each read, block the event loop for any length of time. This class is for safety, not for speed.
    """

    _head_bytes: int | None = None
    """Bytes received of a head that is not complete; None outside of a head."""
    _request_since: float | None = None
    """The loop's time since when the first request, or the rest of a request, is awaited; None while none is."""
    _unsent: tuple[int, float] = (0, 0.0)
    """How many bytes the peer has not taken, and the loop's time since when there are that many."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", OnePacketTransport(transport, self.loop)))
        self._request_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._request_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._request_since = None
        super().on_message_complete()

    def close_if_stalled(self) -> None:
        """Closes the connection when a request on it is not complete after MAX_REQUEST_SECS, or when its peer has taken
        none of the bytes that wait for it for MAX_STALL_SECS.
        """
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        elif now - self._unsent[1] > MAX_STALL_SECS:
            self.transport.abort()
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
    """Uvicorn's server for connections of `BoundedHttpProtocol`. It leaves signals to the caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would raise the signal again at the end, but SIGTERM is an orderly end here, with exit code 0."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Logs the address, once requests are served."""
        await super().startup(sockets)
        for sock in [] if self.should_exit else sockets or []:
            host, port = sock.getsockname()[:2]
            log.info("listening on http://%s:%s", canonical_host(host), port)

    async def on_tick(self, counter: int) -> bool:
        """Ends connections that have stalled, once a second."""
        if counter % TICKS_PER_SECOND == 0:
            for connection in self.server_state.connections.copy():
                if isinstance(connection, BoundedHttpProtocol):
                    connection.close_if_stalled()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the application also when the end is forced: uvicorn would let it be cancelled, with tracebacks."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()
