"""HTTP as uvicorn speaks it, with a bound that it lacks: the size of a request's head."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
TOO_LARGE = "The head of the request is too large."


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses a request whose method, URL and headers together go on beyond MAX_HEAD_BYTES (and one read more).

    Uvicorn collects them without end: one stranger's connection could take all memory, and, since it joins the pieces
    of a URL anew at each read, stop the event loop for as long as it likes.
    """

    _head_bytes: int | None = None
    """What came of a head that is not complete; None outside of one."""

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(TOO_LARGE)
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()
