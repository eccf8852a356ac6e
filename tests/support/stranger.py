"""A server of a stranger: it notes down who connects and what they send, and answers nothing."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_WAIT_SECS = 1.0
_MOST_BYTES = 65536


@dataclass
class Stranger:
    """A port of 127.0.0.1. `heard` has one entry for each connection: what came in its first second at most."""

    port: int = 0
    heard: list[bytes] = field(default_factory=list)
    """Shorter than `connections` while a connection has sent nothing yet."""
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def stranger_listening() -> Iterator[Stranger]:
    """Listens until the block is left."""
    stranger = Stranger()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            stranger.connections += 1
            self.request.settimeout(_WAIT_SECS)
            try:
                stranger.heard.append(self.request.recv(_MOST_BYTES))
            except OSError:
                stranger.heard.append(b"")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        stranger.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stranger
        finally:
            server.shutdown()
            thread.join()
