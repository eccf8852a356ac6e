"""Serves the application until a signal, or an unusable registry, ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
from typing import TYPE_CHECKING

import uvicorn

from dbgpt_ctl.controller.http.protocol import BoundedHttpProtocol
from dbgpt_ctl.domain.instance import bracketed
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from fastapi import FastAPI

    from dbgpt_ctl.controller.controller import Controller

log = logging.getLogger(__name__)

MAX_DESCRIPTORS = 65_536
TICKS_PER_SECOND = 10
"""Uvicorn's."""
DRAIN_SECS = 10
"""So long a request that is under way at the end may take."""


def serve(app: FastAPI, sock: socket.socket, grace_secs: float) -> None:
    """Serves an application of `create_app` on a listening socket.

    SIGTERM (or the SIGHUP of a terminal that closes) turns health to 503 and, after `grace_secs` more of serving, ends
    it: connections drain, the registry is closed, and this returns. A second SIGTERM, or SIGINT, ends it at once;
    SIGINT raises KeyboardInterrupt. Raises RegistryUnusable when the registry says that waiting is of no use.
    """
    _raise_descriptor_limit()
    config = uvicorn.Config(
        app,
        http=BoundedHttpProtocol,
        proxy_headers=False,  # what the log says of callers is the address that they have, not what they claim
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=DRAIN_SECS,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(_Server(config), sock, app.state.controller, grace_secs))


def _raise_descriptor_limit() -> None:
    """Each connection takes one, and stock clients open one per call: the usual soft limit of 1024 soon is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """Leaves signals to `_Ending`: uvicorn would raise them again, and SIGTERM is an orderly end here, exit 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in [] if self.should_exit else sockets or []:
            host, port = sock.getsockname()[:2]
            log.info("listening on http://%s:%s", bracketed(host), port)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_PER_SECOND == 0:
            for connection in self.server_state.connections.copy():
                if isinstance(connection, BoundedHttpProtocol):
                    connection.hurry()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would leave the application to be cancelled, and tell so in tracebacks
            await self.lifespan.shutdown()


class _Ending:
    """How the server comes to its end, and why: `why` is what to raise then, if anything."""

    def __init__(self, server: _Server, controller: Controller, grace_secs: float) -> None:
        self._server = server
        self._controller = controller
        self._grace_secs = grace_secs
        self.why: BaseException | None = None

    def politely(self) -> None:
        """The first time: health says 503, and after the grace it ends. The second time: at once."""
        if self._controller.leaving or not self._grace_secs or not self._controller.health().ready:
            self.at_once(None)  # asked twice, or there is nobody to serve
            return
        self._controller.leaving = True
        log.info(
            "leaving: health is 503 from now on, requests are served for %g s more (give `docker stop -t` %d or more)",
            self._grace_secs,
            self._grace_secs + DRAIN_SECS + 1,
        )
        asyncio.get_running_loop().call_later(self._grace_secs, self.at_once, None)

    def at_once(self, why: BaseException | None) -> None:
        """Without grace; when that was asked before, also without waiting for requests under way."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        self._controller.leaving = True
        self.why = self.why or why


async def _serve(server: _Server, sock: socket.socket, controller: Controller, grace_secs: float) -> None:
    ending = _Ending(server, controller, grace_secs)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.politely)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        loop.add_signal_handler(signal.SIGHUP, ending.politely)
    loop.add_signal_handler(signal.SIGINT, ending.at_once, KeyboardInterrupt())
    controller.on_unusable = ending.at_once
    await server.serve(sockets=[sock])
    if not isinstance(ending.why, CtlError):
        log.info("stopped")
    if ending.why is not None:
        raise ending.why
