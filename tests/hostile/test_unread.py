"""How many bytes a controller keeps for a watcher that does not read."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.http.tls import TlsListener, WatchedCertificate
from dbgpt_ctl.controller.server import create_server, listening_socket
from dbgpt_ctl.controller.watch.subscriber import MAX_BATCH_BYTES
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.tls import authority

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

    from dbgpt_ctl.controller.http.protocol import BoundedHttpProtocol

MOST_BYTES = 64 * 1024
EVENTS = 3000
"""Of 1 kB each: many times what the system takes for a peer that does not read."""
WAIT_SECS = 60.0
REQUEST = b"GET /api/v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n"


@asynccontextmanager
async def serving(server: uvicorn.Server, sock: socket.socket, app: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield
    finally:
        app.state.controller.leave()
        server.should_exit = server.force_exit = True
        await task


async def watch(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """A client that reads the head of the answer, and then nothing: the buffers of its socket and reader are small."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    name = "localhost" if context else None
    reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=1024)
    writer.write(REQUEST)
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    return writer


async def unread_bytes(sock: socket.socket, tls: TlsListener | None, context: ssl.SSLContext | None) -> int:
    """What waits in the transports of a watch after a burst of events, once its writer waits."""
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT)
    app = create_app(ControllerSettings(), registry)
    server: Any = create_server(app, tls=tls)
    async with serving(server, sock, app), asyncio.timeout(WAIT_SECS):
        writer = await watch((tls.sock if tls else sock).getsockname()[1], context)
        for number in range(EVENTS):
            await registry.register(Registration(InstanceKey(f"{'m' * 400}@llm", f"{'h' * 400}.{number}", 1)))
        connection: BoundedHttpProtocol = next(iter(server.server_state.connections))
        while not connection.flow.write_paused or app.state.controller.feed._ring.cursor.number < EVENTS:
            await asyncio.sleep(0.01)
        unread = connection.transport.get_write_buffer_size()
        writer.transport.abort()
    return unread


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_what_waits_for_a_watcher_that_does_not_read_is_bounded(over_tls: bool, tmp_path: Path) -> None:
    """One batch waits in each transport, and one more until they take it."""
    ca = authority(tmp_path / "tls")
    with listening_socket("127.0.0.1", 0) as sock, listening_socket("127.0.0.1", 0) as tls_sock:
        certificate = WatchedCertificate(str(ca.cert), str(ca.key), SystemClock())
        tls = TlsListener(tls_sock, certificate) if over_tls else None
        with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:
            unread = runner.run(unread_bytes(sock, tls, ca.trusting() if over_tls else None))
    assert 0 < unread <= MOST_BYTES - MAX_BATCH_BYTES
