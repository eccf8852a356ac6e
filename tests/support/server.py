"""The real HTTP server in a thread of the test's process, on a free port of loopback.

Each answer of the API is validated against the OpenAPI document; see `api_document`.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_tracer
from dbgpt_ctl.controller.http.protocol import BoundedServer
from dbgpt_ctl.controller.server import create_server, listening_socket
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.api_document import ValidatingApp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from dbgpt_ctl.controller.service.controller import Controller
    from dbgpt_ctl.registry.contract import ModelRegistry

STARTUP_SECS = 20.0


class _Server(BoundedServer):
    """Reports when it serves, and ends watches at its end as `ctl serve` does; it would wait for them otherwise."""

    def __init__(self, app: ValidatingApp, controller: Controller | None) -> None:
        super().__init__(create_server(app, drain_secs=5).config)
        self.serving = threading.Event()
        self._controller = controller

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: Any = None) -> None:
        if self._controller is not None:
            self._controller.leave()
        await super().shutdown(sockets)


@contextmanager
def running_app(app: FastAPI, *, send_buffer: int | None = None) -> Iterator[str]:
    """Serves `app` until the block is left; gives its base URL. `send_buffer`: the system's, of each connection.

    Fails at the end when an answer of the API was not as the OpenAPI document says.
    """
    with listening_socket("127.0.0.1", 0) as sock:
        if send_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        validating = ValidatingApp(app)
        server = _Server(validating, getattr(app.state, "controller", None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, name="controller under test")
        thread.start()
        try:
            assert server.serving.wait(STARTUP_SECS), "the controller under test did not start"
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
    assert not validating.violations, "\n".join(validating.violations)


@contextmanager
def running_controller(registry: ModelRegistry, **values: Any) -> Iterator[str]:
    """A controller over `registry` with the given settings; gives its base URL once health says 200 (unless the
    registry never opens).
    """
    settings = ControllerSettings(**values)
    app = create_app(settings, registry, create_tracer(settings))
    with running_app(app) as url:
        deadline = time.monotonic() + STARTUP_SECS
        while not app.state.controller.health().ready and time.monotonic() < deadline:
            time.sleep(0.005)
        yield url
