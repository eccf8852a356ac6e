"""HTTP as uvicorn speaks it, with the bounds that it lacks: on the size of a request's head, and on its slowness."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from dbgpt_ctl.controller.http.joined import JoinedWrites

if TYPE_CHECKING:
    import asyncio

MAX_HEAD_BYTES = 64 * 1024
MAX_REQUEST_SECS = 10.0
MAX_STALL_SECS = 30.0


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a head (method, URL and headers) that goes on beyond MAX_HEAD_BYTES, give or take one read.

    Uvicorn collects it without end: one connection could take all memory, and, since the pieces of a URL are joined
    anew at each read, hold up the event loop for as long as it likes.
    """

    _head_bytes: int | None = None
    """What came of a head that is not complete; None outside of one."""
    _awaited_since: float | None = None
    """The loop's time since when a first request, or the rest of one, is to come; None while nothing is owed."""
    _unsent: tuple[int, float] = (0, 0.0)
    """How many bytes wait for the peer, and the loop's time since when they are as many: it takes none."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", JoinedWrites(transport, self.loop)))
        self._awaited_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The head of the request is too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._awaited_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._awaited_since = None
        super().on_message_complete()

    def hurry(self) -> None:
        """Closes the connection when a request on it has not come as a whole within MAX_REQUEST_SECS, or when its
        peer has taken nothing of what waits for it for MAX_STALL_SECS.
        """
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent[0]:
            self._unsent = (unsent, now)
        elif now - self._unsent[1] > MAX_STALL_SECS:
            self.transport.abort()
            return
        if self._awaited_since is not None and now - self._awaited_since > MAX_REQUEST_SECS:
            self.transport.close()

    def shutdown(self) -> None:
        """What has not come as a whole is not waited for."""
        if self._awaited_since is None:
            super().shutdown()
        else:
            self.transport.close()
