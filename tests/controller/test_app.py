"""The application around the endpoints: lifespan, swapping, mounting in somebody else's, errors nobody raised on
purpose.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.exceptions import HTTPException

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import initialize_controller
from dbgpt_ctl.controller.controller import Controller
from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.contract import RegistryHealth
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import Listing
    from tests.support.clock import ManualClock

GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


class LateRegistry(EmbeddedModelRegistry):
    """Its database, so to say, is down until `up` is set; `unusable` makes opening hopeless."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, heartbeat_timeout=TIMEOUT)
        self.up = threading.Event()
        self.unusable = False

    async def open(self) -> None:
        if self.unusable:
            raise RegistryUnusable("access denied for user 'ctl'")
        if not self.up.is_set():
            raise RegistryUnavailable("db1:3306 does not answer")
        await super().open()

    def health(self) -> RegistryHealth:
        return super().health() if self.up.is_set() else RegistryHealth(ready=False, reason="db1:3306 does not answer")


class BrokenRegistry(EmbeddedModelRegistry):
    async def list(self, *_args: Any, **_kwargs: Any) -> Listing:
        raise ZeroDivisionError("secret words")


def get(url: str, path: str) -> httpx.Response:
    return httpx.get(url + path, trust_env=False)


def test_health_is_503_with_the_reason_until_the_registry_opens(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = LateRegistry(clock)
    with running_app(create_app(ControllerSettings(), registry)) as url:
        reply = get(url, "/api/health")
        assert (reply.status_code, reply.json()["detail"], reply.json()["code"]) == (
            503,
            "db1:3306 does not answer",
            "registry_unavailable",
        )
        assert reply.headers["retry-after"] == "5"
        registry.up.set()
        deadline = time.monotonic() + 10
        while get(url, "/api/health").status_code != 200:
            assert time.monotonic() < deadline, "health did not recover"
    assert "waiting for the registry: db1:3306 does not answer" in caplog.text


def test_an_unusable_registry_is_told_and_leaves_a_foreign_application_alone(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = LateRegistry(clock)
    registry.unusable = True
    with running_app(create_app(ControllerSettings(), registry)) as url:
        assert get(url, "/api/health").status_code == 503
    assert "access denied for user 'ctl'" in caplog.text


class StrangelyLate(EmbeddedModelRegistry):
    faults = 2

    async def open(self) -> None:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("boom")
        await super().open()


def test_opening_outlives_an_error_that_nobody_foresaw_and_tells_it_once(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = StrangelyLate(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_app(create_app(ControllerSettings(), registry)):
        deadline = time.monotonic() + 10
        while registry.faults:
            assert time.monotonic() < deadline, "it was not tried again"
            time.sleep(0.01)
    assert caplog.text.count("ZeroDivisionError: boom") == 1


def test_an_unexpected_error_is_a_problem_that_tells_nothing(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    with running_controller(BrokenRegistry(clock=clock, heartbeat_timeout=TIMEOUT)) as url:
        reply = get(url, "/api/controller/models")
    assert (reply.status_code, reply.json()["code"]) == (500, "internal_error")
    assert "secret words" not in reply.text
    assert "secret words" in caplog.text


def test_the_registry_behind_a_running_controller_is_swapped(clock: ManualClock) -> None:
    first, second = (EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT) for _ in range(2))
    app = create_app(ControllerSettings(), first)
    swapped = threading.Event()

    @app.post("/swap")
    async def swap() -> None:
        await app.state.controller.swap(second)
        swapped.set()

    with running_app(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        http.post("/api/controller/models", json=GOOD)
        assert len(http.get("/api/controller/models").json()) == 1
        http.post("/swap")
        assert swapped.is_set()
        assert http.get("/api/controller/models").json() == []
        assert http.get("/api/health").status_code == 200
        assert not first.health().ready


def test_swapping_in_a_registry_that_does_not_open_changes_nothing(clock: ManualClock) -> None:
    first = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    controller = Controller(first)
    with pytest.raises(RegistryUnavailable):
        asyncio.run(controller.swap(LateRegistry(clock)))
    assert controller.registry is first
    assert first.health().ready


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
            assert get(front, "/api/controller/models").content == get(behind, "/api/controller/models").content
            assert httpx.delete(front + "/api/controller/models", params=GOOD, trust_env=False).content == b"true"
            assert [each["healthy"] for each in get(behind, "/api/controller/models").json()] == [False]
