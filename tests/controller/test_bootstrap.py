"""A controller that is put together from settings, alone or inside a foreign application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.exceptions import HTTPException

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import (
    configure_log,
    create_registry,
    grace_secs,
    initialize_controller,
    own_address,
)
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.observer import RecordingObserver
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clock import ManualClock

GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


@pytest.fixture(autouse=True)
def _restored_loggers() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("uvicorn", "sqlalchemy", "httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def get(url: str, path: str) -> httpx.Response:
    return httpx.get(url + path, trust_env=False)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.1", "http://10.0.0.1:8001"),
        ("::1", "http://[::1]:8001"),
        ("ctl-1", "http://ctl-1:8001"),
        ("0.0.0.0", f"http://{socket.gethostname()}:8001"),
        ("::", f"http://{socket.gethostname()}:8001"),
    ],
)
def test_the_address_that_other_controllers_get(host: str, address: str) -> None:
    assert own_address(ControllerSettings(host=host, port=8001)) == address


def test_the_address_that_other_controllers_get_is_https_where_there_is_no_http() -> None:
    over_tls = ControllerSettings(host="10.0.0.1", tls_cert="tls.crt", tls_key="tls.key", tls_port=9443)
    assert own_address(over_tls) == "http://10.0.0.1:8000"
    assert own_address(replace(over_tls, no_http=True)) == "https://10.0.0.1:9443"


@pytest.mark.parametrize("kind", ["embedded", "database"])
def test_the_observer_learns_what_the_registry_of_the_settings_does(kind: str, tmp_path: Path) -> None:
    observer = RecordingObserver()
    settings = ControllerSettings(
        registry_type=kind, registry_db_type="sqlite", registry_db_name=str(tmp_path / "ctl.db"), max_instances=7
    )

    async def scenario() -> int | None:
        async with create_registry(settings, observer=observer) as registry:
            await registry.register(Registration(InstanceKey("qwen@llm", "10.0.0.4", 8001)))
            return registry.figures().max_instances

    assert asyncio.run(scenario()) == 7
    assert [change.cause.verb for change in observer.changes] == ["register"]


def test_the_observer_learns_that_the_controller_behind_is_away() -> None:
    observer = RecordingObserver()
    registry = create_registry(ControllerSettings(remote_addr="http://127.0.0.1:1"), observer=observer)
    with pytest.raises(RegistryUnavailable):
        asyncio.run(registry.open())
    assert observer.failures == ["unavailable"]


def test_a_foreign_application_may_write_to_its_answers(clock: ManualClock) -> None:
    """Its background tasks run once for each call, and headers that its middleware adds are those of one call."""
    ran: list[int] = []

    def dependency(tasks: BackgroundTasks) -> None:
        tasks.add_task(ran.append, len(ran))

    class Tagging:
        def __init__(self, app: Any) -> None:
            self._app = app
            self._calls = 0

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            self._calls += 1

            async def tagged(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"].append((b"x-call", b"%d" % self._calls))
                await send(message)

            await self._app(scope, receive, tagged)

    app = FastAPI(dependencies=[Depends(dependency)])
    app.add_middleware(Tagging)
    initialize_controller(app, registry=EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT))
    transport = httpx.ASGITransport(app)

    async def scenario() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://x") as http,
        ):
            replies = [await http.post("/api/controller/heartbeat", json=GOOD) for _ in range(3)]
            tags = [reply.headers.get_list("x-call") for reply in replies]
            assert tags == [[str(int(tags[0][0]) + count)] for count in range(3)]

    asyncio.run(scenario())
    assert ran == [0, 1, 2]


def test_mounted_in_a_foreign_application(clock: ManualClock) -> None:
    events: list[str] = []

    async def lifespan(_app: FastAPI) -> Any:
        events.append("up")
        yield
        events.append("down")

    app = FastAPI(lifespan=asynccontextmanager(lifespan))

    @app.get("/mine")
    async def mine() -> None:
        raise HTTPException(418, "short and stout")

    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    controller = initialize_controller(app, registry=registry)
    assert controller is not None
    assert controller.registry is registry
    with running_app(app) as url:
        assert events == ["up"]
        assert httpx.post(url + "/api/controller/models", json=GOOD, trust_env=False).content == b"true"
        assert len(get(url, "/api/controller/models").json()) == 1
        assert get(url, "/api/controller/models?healthy_only=x").json()["code"] == "invalid_instance"
        assert get(url, "/mine").json() == {"detail": "short and stout"}  # its own errors stay its own
    assert events == ["up", "down"]
    assert not registry.health().ready


def test_a_controller_in_front_of_a_controller(clock: ManualClock) -> None:
    with running_controller(EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)) as behind:
        app = FastAPI()
        initialize_controller(app, remote_controller_addr=behind)
        with running_app(app) as front:
            assert httpx.post(front + "/api/controller/models", json=GOOD, trust_env=False).content == b"true"
            status = get(front, "/api/v1/status").json()
            assert (status["settings"], status["controllers"]) == ({}, [])  # those behind it may have others
            assert get(front, "/api/controller/models").content == get(behind, "/api/controller/models").content
            assert httpx.delete(front + "/api/controller/models", params=GOOD, trust_env=False).content == b"true"
            assert [each["healthy"] for each in get(behind, "/api/controller/models").json()] == [False]


def test_a_foreign_application_documents_the_api_beside_its_own_routes(clock: ManualClock) -> None:
    app = FastAPI()

    @app.get("/mine")
    async def mine() -> int:
        return 1

    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    initialize_controller(app, registry=registry)
    paths = app.openapi()["paths"]
    own = create_app(ControllerSettings(no_console=True), registry).openapi()["paths"]
    assert paths.pop("/mine")["get"]["responses"].keys() == {"200"}
    assert paths == {path: own[path] for path in own if path.startswith("/api/")}


def test_a_line_has_the_time_in_utc_and_the_level(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "ctl.log"
    with contextlib.closing(configure_log("info", str(path))):
        logging.getLogger("dbgpt_ctl.instances").info("%s registered", "qwen")
        logging.getLogger("dbgpt_ctl").debug("below the level")
        logging.getLogger("uvicorn.error").info("a start")
        logging.getLogger("uvicorn.error").warning("a fault")
    first, second = path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO qwen registered", first)
    assert second.endswith("Z WARNING a fault")


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        configure_log("info", str(tmp_path / "file" / "ctl.log"))


MYSQL = {"registry_type": "database", "registry_db_host": "db1", "registry_db_user": "u", "registry_db_password": "p"}
SQLITE = {"registry_type": "database", "registry_db_type": "sqlite", "registry_db_name": "ctl.db"}


@pytest.mark.parametrize(
    ("flags", "secs"), [({}, 0.0), (SQLITE, 0.0), (MYSQL, 12.0), (SQLITE | {"shutdown_grace_secs": 3.0}, 3.0)]
)
def test_only_a_registry_that_controllers_share_has_a_grace_by_default(flags: dict[str, Any], secs: float) -> None:
    assert grace_secs(ControllerSettings.load(flags, {}, "")) == secs
