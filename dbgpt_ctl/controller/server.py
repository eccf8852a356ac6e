"""Serves the application until a signal, or a registry that is unusable, ends it.

The listening socket is made before anything else, so that a busy port is one line and not a traceback.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from dbgpt_ctl.background import background_task
from dbgpt_ctl.controller.systemd import ServiceManager
from dbgpt_ctl.errors import CannotListen, CtlError
from dbgpt_ctl.settings.schema import MIN_CONNECTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from dbgpt_ctl.controller.http.tls import TlsListener
    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.settings.schema import ControllerSettings


BACKLOG = 65_535
"""How many connections may wait until the controller takes them; the system lowers it to net.core.somaxconn. A client
beyond that is not refused: its system tries again a second later.
"""

MAX_UNSENT_BYTES = 64 * 1024
"""The system takes this many bytes for a peer beyond those on their way to it. Without this bound it took 1 MB for each
watcher that never read, and the controller took the time to write them.
"""


def listening_socket(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A bound socket on the first address of `host`. Raises CannotListen, which names `flag`, the flag of the port, and
    the process that holds the port if the system shows it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise CannotListen(f"host {host!r} is not an address of this machine: {error.strerror}") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise CannotListen(_reason(host, port, flag, error)) from None
    return sock


def _reason(host: str, port: int, flag: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use{_port_holder(port)}; stop that process or choose another {flag}"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not allowed for this user; choose a {flag} above 1023"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def _port_holder(port: int) -> str:
    """` by NAME (process 123)`, or nothing where the system does not show it."""
    import psutil  # only for a start that failed

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        return ""
    return ""


log = logging.getLogger(__name__)

MAX_DESCRIPTORS = 65_536
OWN_DESCRIPTORS = 128
"""What a controller opens besides connections of clients and of the database: listening sockets, log, traces, libraries
that are imported late.
"""
DRAIN_SECS = 10
"""How long requests in progress may take at the end."""
_START_POLL_SECS = 0.05
_REPORT_SECS = 1.0


def serve(
    app: FastAPI,
    sockets: list[socket.socket],
    settings: ControllerSettings,
    grace_secs: float,
    tls: TlsListener | None = None,
    *,
    service_manager: ServiceManager | None = None,
) -> None:
    """Serves an application of `create_app` on listening sockets, without TLS on `sockets` and with TLS on `tls`.

    SIGTERM, or the SIGHUP of a terminal that closes, turns health to 503. `grace_secs` later the server ends:
    connections drain, the registry is closed, and this function returns. A second SIGTERM, or SIGINT, ends the server
    at once; SIGINT raises KeyboardInterrupt. Raises RegistryUnusable when the registry does, and CannotListen if TLS
    needs a part that this version of uvicorn does not have. `service_manager` is told of the start and the end.
    """
    service_manager = service_manager or ServiceManager()
    limit = connection_limit(settings, _raise_descriptor_limit(settings.max_connections or 0))
    server = create_server(with_request_logs(app, settings), max_connections=limit, tls=tls)
    app.state.controller.serve_with(getattr(server.server_state, "figures", None), tls)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, sockets, app.state.controller, grace_secs, service_manager))


def with_request_logs(app: FastAPI, settings: ControllerSettings) -> Callable[..., Any]:
    """The application, behind what notes or logs its requests if a setting of the log needs that."""
    outer: Callable[..., Any] = app
    if settings.access_log:
        from dbgpt_ctl.controller.logs.access_log import AccessLog

        outer = AccessLog(outer, {path for route in app.routes if (path := getattr(route, "path", None))})
    if settings.log_format == "json":
        from dbgpt_ctl.controller.logs.current_request import NotedRequests

        outer = NotedRequests(outer)
    return outer


def create_server(
    app: Callable[..., Any],
    *,
    drain_secs: int = DRAIN_SECS,
    max_connections: int = sys.maxsize,
    tls: TlsListener | None = None,
) -> uvicorn.Server:
    """Uvicorn for an ASGI application, with the bounds of `protocol` unless this version of uvicorn lacks a part.

    Raises CannotListen then if there is a listener for TLS: nothing is served without TLS by mistake.
    """
    http: Any = "auto"
    server_class: Callable[[uvicorn.Config], uvicorn.Server] = uvicorn.Server
    try:
        from dbgpt_ctl.controller.http.protocol import BoundedHttpProtocol, BoundedServer
    except ImportError as error:
        if tls is not None:
            raise CannotListen(f"TLS is not possible: {error}; install the version that dbgpt-ctl needs") from None
        log.warning("the server has no bounds on requests and connections, and no grace at SIGTERM: %s", error)
    else:
        http, server_class = BoundedHttpProtocol, partial(BoundedServer, limit=max_connections, tls=tls)
    config = uvicorn.Config(
        app,
        http=http,
        proxy_headers=False,  # `http.source` reads them, from trusted proxies only
        log_config=None,
        # Uvicorn formats two lines for each connection, and then discards them, unless its logger has a level itself.
        log_level=logging.getLogger("uvicorn.error").getEffectiveLevel(),
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=drain_secs,
        backlog=BACKLOG,  # the event loop calls listen() again
    )
    return server_class(config)


def connection_limit(settings: ControllerSettings, descriptors: int) -> int:
    """How many connections there may be at one time, so that files and the database still get descriptors."""
    own = OWN_DESCRIPTORS
    if settings.registry_type == "database":
        own += settings.registry_db_pool_size + settings.registry_db_max_overflow
    possible = max(MIN_CONNECTIONS, descriptors - own)
    wanted = settings.max_connections
    if wanted is not None and wanted > possible:
        log.warning(
            "max_connections %d: there can be %d, because the limit of open files is %d; raise it (ulimit -n)",
            wanted,
            possible,
            descriptors,
        )
    return possible if wanted is None else min(wanted, possible)


def _raise_descriptor_limit(connections: int) -> int:
    """The limit, once it is raised to MAX_DESCRIPTORS, or to more for that many connections, as far as it can be.

    Each connection takes one, and DB-GPT's clients open one per call: the usual soft limit of 1024 is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(MAX_DESCRIPTORS, connections + MAX_DESCRIPTORS // 2)
    wanted = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class _Ending:
    """How the server ends. `error` is what to raise at the end, if anything."""

    def __init__(
        self, server: uvicorn.Server, controller: Controller, grace_secs: float, service_manager: ServiceManager
    ) -> None:
        self._server = server
        self._controller = controller
        self._grace_secs = grace_secs
        self._service_manager = service_manager
        self.error: BaseException | None = None

    def gracefully(self) -> None:
        """The first time: health answers 503, and the server ends after the grace. The second time: it ends now."""
        if self._controller.leaving or not self._grace_secs or not self._controller.health().ready:
            self.now(None)  # the second time, or no client can be served
            return
        self._leave()
        log.info(
            "leaving: health is 503 from now on, requests are served for %g s more (give `docker stop -t` %d or more)",
            self._grace_secs,
            self._grace_secs + DRAIN_SECS + 1,
            extra={"event": "controller.leaving"},
        )
        asyncio.get_running_loop().call_later(self._grace_secs, self.now, None)

    def now(self, error: BaseException | None) -> None:
        """Without grace; the second time also without waiting for requests in progress."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        self._leave()
        self.error = self.error or error

    def _leave(self) -> None:
        self._controller.leave()
        self._service_manager.leaving()


async def _serve(
    server: uvicorn.Server,
    sockets: list[socket.socket],
    controller: Controller,
    grace_secs: float,
    service_manager: ServiceManager,
) -> None:
    ending = _Ending(server, controller, grace_secs, service_manager)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.gracefully)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        loop.add_signal_handler(signal.SIGHUP, ending.gracefully)
    loop.add_signal_handler(signal.SIGINT, ending.now, KeyboardInterrupt())
    controller.on_unusable = ending.now
    async with background_task(_report_serving(server, service_manager), "service manager"):
        await server.serve(sockets=sockets)
    if not isinstance(ending.error, CtlError):
        log.info("stopped", extra={"event": "controller.stopped"})
    if ending.error is not None:
        raise ending.error


async def _report_serving(server: uvicorn.Server, service_manager: ServiceManager) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(_START_POLL_SECS)
    while not server.should_exit:
        service_manager.serving()
        await asyncio.sleep(_REPORT_SECS)
