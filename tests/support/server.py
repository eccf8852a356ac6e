"""A real uvicorn in a thread of the test's process, on a free port of loopback."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_tracer
from dbgpt_ctl.controller.http.socket import listening_socket
from dbgpt_ctl.settings.schema import ControllerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from dbgpt_ctl.registry.contract import ModelRegistry

STARTUP_SECS = 20.0


class _Server(uvicorn.Server):
    """Tells its thread's parent when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: Any = None) -> None:
        """Watchers go, as with `ctl serve`; else they would be waited for."""
        controller = getattr(getattr(self.config.app, "state", None), "controller", None)
        if controller is not None:
            controller.leaving = True
        await super().shutdown(sockets)


@contextmanager
def running_app(app: FastAPI, *, send_buffer: int | None = None) -> Iterator[str]:
    """Serves `app` until the block is left; gives its base URL. `send_buffer`: the system's, of each connection."""
    with listening_socket("127.0.0.1", 0) as sock:
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        config = uvicorn.Config(
            app, log_config=None, access_log=False, ws="none", lifespan="on", timeout_graceful_shutdown=5
        )
        server = _Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="controller under test")
        thread.start()
        try:
            assert server.serving.wait(STARTUP_SECS), "the controller under test did not start"
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def running_controller(registry: ModelRegistry, **knobs: Any) -> Iterator[str]:
    """A controller over `registry` with the given settings; gives its base URL once health says 200 (unless the
    registry never opens).
    """
    settings = ControllerSettings(**knobs)
    app = create_app(settings, registry, create_tracer(settings))
    with running_app(app) as url:
        deadline = time.monotonic() + STARTUP_SECS
        while not app.state.controller.health().ready and time.monotonic() < deadline:
            time.sleep(0.005)
        yield url
