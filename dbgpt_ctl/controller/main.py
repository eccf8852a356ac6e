"""Where the parts are put together: settings -> registry -> application -> server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import uvicorn

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller import logs, problems
from dbgpt_ctl.controller.app import create_app, mount
from dbgpt_ctl.controller.core import Controller
from dbgpt_ctl.controller.listen import listening_socket
from dbgpt_ctl.errors import CtlError, UsageError
from dbgpt_ctl.instance import bracketed
from dbgpt_ctl.registry.embedded import EmbeddedModelRegistry
from dbgpt_ctl.settings import ControllerSettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from fastapi import FastAPI
    from sqlalchemy import URL

    from dbgpt_ctl.registry import ModelRegistry

log = logging.getLogger(__name__)

GRACEFUL_SHUTDOWN_SECS = 10
"""So long a request that was under way at SIGTERM may take."""


def create_registry(settings: ControllerSettings) -> ModelRegistry:
    """The registry that the settings name, not yet open. Its libraries are imported only now: an embedded one needs no
    SQLAlchemy.
    """
    timeout = timedelta(seconds=settings.heartbeat_timeout_secs)
    if settings.remote_addr:
        from dbgpt_ctl.registry.remote import RemoteModelRegistry

        return RemoteModelRegistry(settings.remote_addr)
    if settings.registry_type == "embedded":
        return EmbeddedModelRegistry(
            clock=SystemClock(), heartbeat_timeout=timeout, max_instances=settings.max_instances
        )
    from dbgpt_ctl.registry.database import DatabaseModelRegistry

    return DatabaseModelRegistry(
        database_url(settings),
        heartbeat_timeout=timeout,
        max_instances=settings.max_instances,
        pool_size=settings.registry_db_pool_size,
        max_overflow=settings.registry_db_max_overflow,
    )


def database_url(settings: ControllerSettings) -> URL:
    """Where the database registry is, as SQLAlchemy wants it said."""
    from sqlalchemy import URL

    if settings.registry_db_type == "sqlite":
        return URL.create("sqlite", database=settings.registry_db_name)
    return URL.create(
        "mysql+pymysql",
        username=settings.registry_db_user,
        password=settings.registry_db_password,
        host=settings.registry_db_host,
        port=settings.registry_db_port,
        database=settings.registry_db_name,
        query={"charset": "utf8mb4"},
    )


def run(settings: ControllerSettings) -> None:
    """Serves until SIGTERM (returns) or SIGINT (raises KeyboardInterrupt). Raises CtlError where it cannot."""
    try:
        handler = logs.configure(settings.log_level, settings.log_file)
    except OSError as error:
        raise UsageError(f"log file {settings.log_file} cannot be written: {error.strerror}") from None
    if settings.log_file:  # on a terminal `ctl serve` has told them already
        for warning in settings.warnings():
            log.warning("%s", warning)
    with contextlib.closing(handler), contextlib.closing(listening_socket(settings.host, settings.port)) as sock:
        serve(create_app(settings, create_registry(settings)), sock)


def serve(app: FastAPI, sock: socket.socket) -> None:
    """Serves an application of `create_app` on a listening socket, as `run` does."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_SECS,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(_Server(config), sock, app.state.controller))


def initialize_controller(
    app: FastAPI | None = None,
    *,
    registry: ModelRegistry | None = None,
    remote_controller_addr: str | None = None,
    settings: ControllerSettings | None = None,
) -> Controller | None:
    """Mounts the API in `app`, which must not have started yet, and returns its Controller; without `app`, runs a
    server of its own.

    The registry is `registry`, else that of the controller at `remote_controller_addr`, else what `settings` name (by
    default the embedded one). Arguments are named as in DB-GPT.
    """
    settings = settings or ControllerSettings()
    if remote_controller_addr:
        settings = replace(settings, remote_addr=remote_controller_addr)
    registry = registry or create_registry(settings)
    if app is None:
        with contextlib.closing(listening_socket(settings.host, settings.port)) as sock:
            serve(create_app(settings, registry), sock)
        return None
    controller = Controller(registry)
    problems.install_in_foreign(app)
    mount(app, controller)
    return controller


class _Server(uvicorn.Server):
    """Leaves signals to `_serve`: uvicorn would raise them again at the end, and SIGTERM is an orderly end here, exit
    0.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in [] if self.should_exit else sockets or []:
            host, port = sock.getsockname()[:2]
            log.info("listening on http://%s:%s", bracketed(host), port)


async def _serve(server: _Server, sock: socket.socket, controller: Controller) -> None:
    """Serves until a signal or an unusable registry ends it, and raises what the end was for: nothing after SIGTERM."""
    ends: list[BaseException | None] = []

    def end(why: BaseException | None) -> None:
        server.force_exit = bool(ends)  # asked twice: without waiting for the requests under way
        server.should_exit = True
        ends.append(why)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end, None)
    loop.add_signal_handler(signal.SIGINT, end, KeyboardInterrupt())
    controller.on_unusable = end
    await server.serve(sockets=[sock])
    if ends and isinstance(ends[0], CtlError):
        raise ends[0]
    log.info("stopped")
    if ends and ends[0] is not None:
        raise ends[0]
