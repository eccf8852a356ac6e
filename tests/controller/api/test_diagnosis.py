"""What a controller says is wrong with it: as `ctl status` does, and without a stop for other requests."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest

from dbgpt_ctl.controller.api import diagnosis
from dbgpt_ctl.controller.api.diagnosis import MAX_EVIDENCE, PLACES, SHARED_SECS
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_registry
from dbgpt_ctl.domain.hosts import is_loopback
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.clock import ManualClock
from tests.support.process import ctl, environment
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbgpt_ctl.registry.contract import Listing
    from dbgpt_ctl.wire.status import Status

ONE: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
TWO: dict[str, Any] = {"model_name": "bge@text2vec", "host": "10.0.0.5", "port": 8002}
POISON: dict[str, Any] = {"model_name": "<img src=x>'\"\\x1b$(id)@llm", "host": "10.0.0.6", "port": 8003}
DAY = 24 * 3600


def register(http: httpx.Client, *instances: dict[str, Any]) -> None:
    for instance in instances:
        assert http.post("/api/controller/models", json=instance).json() is True


def findings(http: httpx.Client) -> list[dict[str, Any]]:
    reply = http.get("/api/v1/diagnosis")
    assert reply.status_code == 200
    found: list[dict[str, Any]] = reply.json()["findings"]
    return found


def by_code(http: httpx.Client) -> dict[str, dict[str, Any]]:
    return {finding["code"]: finding for finding in findings(http)}


def test_nothing_is_wrong(http: httpx.Client) -> None:
    register(http, ONE)
    answer = http.get("/api/v1/diagnosis").json()
    assert answer == {"version": 1, "time": answer["time"], "findings": []}
    assert datetime.fromisoformat(answer["time"]).tzinfo is not None


def test_it_says_what_ctl_status_says() -> None:
    """Of each kind: a model without a healthy instance, a forgotten drain, a worker that still beats."""
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=2 * DAY))
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(registry) as url, httpx.Client(base_url=url, trust_env=False) as http:
        _compare(http, url, clock)


def _compare(http: httpx.Client, url: str, clock: ManualClock) -> None:
    register(http, ONE, TWO, POISON)
    http.post("/api/v1/drain", json=TWO | {"reason": "new drivers"})
    clock.advance(2 * DAY)
    register(http, TWO, POISON)
    http.delete("/api/controller/models", params=POISON)
    http.post("/api/controller/heartbeat", json=POISON)
    found = findings(http)
    shown = json.loads(ctl("status", "-a", url, "-o", "json").out)
    of_status = {
        (each["code"], each["subject"], _without_ages(each["detail"])) for each in shown["warnings"] + shown["info"]
    }
    of_console = {
        (each["code"], evidence["subject"], _without_ages(evidence["detail"]))
        for each in found
        for evidence in each["evidence"]
    }
    assert of_console == of_status
    assert [each["code"] for each in found] == [
        *("no-healthy-instance", "deregistered-beating", "no-healthy-instance", "drained-long")
    ]
    assert [each["severity"] for each in found] == ["error", "error", "info", "info"]
    assert all(each["summary"] and each["fix"] and each["more"] == 0 for each in found)


def _without_ages(detail: str) -> str:
    """They were not asked at the same time."""
    return re.sub(r"\d+[smhd] ago", "some time ago", detail)


def test_the_controller_is_named_as_it_was_called(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    app = create_app(ControllerSettings(host="127.0.0.1", allowed_hosts="ctl.example"), registry)
    with running_app(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        app.state.controller.leave()
        register(http, ONE)
        reply = http.get("/api/v1/diagnosis", headers={"Host": "ctl.example:8443"})
    (leaving,) = reply.json()["findings"]
    assert leaving["code"] == "controller-leaving"
    assert [each["subject"] for each in leaving["evidence"]] == ["http://ctl.example:8443"]


class Away(EmbeddedModelRegistry):
    """Answers no list now."""

    async def list(self, *_args: Any, **_kwargs: Any) -> Any:
        raise RegistryUnavailable("db1 does not answer")


def test_it_answers_while_the_registry_cannot_be_read(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Away(clock=clock, heartbeat_timeout=TIMEOUT)
    unready = registry.health().__class__(ready=False)
    monkeypatch.setattr(registry, "health", lambda: unready)
    with running_app(create_app(ControllerSettings(), registry)) as url, httpx.Client(base_url=url) as http:
        assert list(by_code(http)) == ["registry-not-ready"]


class LastKnown(EmbeddedModelRegistry):
    """Answers with its last known list."""

    async def list(self, *args: Any, **kwargs: Any) -> Listing:
        listing = await super().list(*args, **kwargs)
        return replace(listing, stale_since=datetime.now(UTC) - timedelta(seconds=9))


def test_it_answers_from_a_list_that_is_out_of_date(clock: ManualClock) -> None:
    registry = LastKnown(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(registry) as url, httpx.Client(base_url=url, trust_env=False) as http:
        register(http, ONE)
        clock.advance(TIMEOUT.total_seconds() + 1)
        found = by_code(http)
    assert list(found) == ["registry-stale", "no-healthy-instance"]
    assert found["registry-stale"]["evidence"][0]["subject"] == url


def test_a_controller_that_forwards_examines_what_the_other_one_knows(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "SHARED_SECS", 0)
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(registry) as behind:
        settings = ControllerSettings(remote_addr=behind)
        with (
            running_controller(create_registry(settings), remote_addr=behind) as url,
            httpx.Client(base_url=url, trust_env=False) as http,
        ):
            register(http, ONE)
            assert findings(http) == []
            clock.advance(TIMEOUT.total_seconds() + 1)
            assert list(by_code(http)) == ["no-healthy-instance"]


def test_a_controller_that_forwards_says_that_the_other_one_is_away() -> None:
    settings = ControllerSettings(remote_addr="http://127.0.0.1:1")
    app = create_app(settings, create_registry(settings))
    with running_app(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        (found,) = findings(http)
    assert found["code"] == "registry-not-ready"
    assert "Connection refused" in found["evidence"][0]["detail"]


def test_the_evidence_is_bounded_and_the_rest_is_counted(clock: ManualClock) -> None:
    number = MAX_EVIDENCE + 3
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(registry) as url, httpx.Client(base_url=url, trust_env=False) as http:
        register(http, *(ONE | {"model_name": f"m{n}@llm"} for n in range(number)))
        clock.advance(TIMEOUT.total_seconds() + 1)
        found = by_code(http)["no-healthy-instance"]
        assert found["summary"] == f"{number} models have no instance that gets requests"
        assert (len(found["evidence"]), found["more"]) == (MAX_EVIDENCE, number - MAX_EVIDENCE)


@pytest.mark.anyio
async def test_instances_are_counted_that_are_not_named() -> None:
    number = MAX_EVIDENCE + 3
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=2 * DAY))
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(days=9))
    for port in range(1, number + 1):
        await registry.register(Registration(InstanceKey("m@llm", "h", port)))
        await registry.drain(InstanceKey("m@llm", "h", port))
    await registry.register(Registration(InstanceKey("m@llm", "h", number + 1)))
    clock.advance(2 * DAY)
    app = create_app(ControllerSettings(), registry)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        (found,) = (await client.get("/api/v1/diagnosis")).json()["findings"]
    assert found["summary"] == f"{number} instances have been drained for more than a day"
    assert (len(found["evidence"]), found["more"]) == (MAX_EVIDENCE, number - MAX_EVIDENCE)


@pytest.mark.anyio
async def test_callers_share_an_examination(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those who ask while it is under way, and who call by another URL, which is in their answer alone."""
    examined: list[str] = []

    def note(_status: Status, _listing: Listing, url: str) -> bytes:
        examined.append(url)
        return json.dumps({"url": url}).encode()

    monkeypatch.setattr(diagnosis, "_examined", note)
    settings = ControllerSettings(host="127.0.0.1", allowed_hosts="*")
    app = create_app(settings, EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        hosts = [f"ctl{number}.example:8443" for number in range(9)]
        answers = await asyncio.gather(*(client.get("/api/v1/diagnosis", headers={"Host": host}) for host in hosts))
        assert [answer.json()["url"] for answer in answers] == [f"http://{host}" for host in hosts]
        assert examined == [PLACES[False]]
        assert (await client.get("/api/v1/diagnosis")).json()["url"] == "http://localhost"
        assert (await client.get("http://127.0.0.1:2/api/v1/diagnosis")).json()["url"] == "http://127.0.0.1:2"
        assert examined == [PLACES[False], PLACES[True]]
        loop = asyncio.get_running_loop()
        later = loop.time() + SHARED_SECS
        monkeypatch.setattr(loop, "time", lambda: later)
        await client.get("http://127.0.0.1:2/api/v1/diagnosis")
        assert len(examined) == 3


def test_what_stands_for_the_url_is_of_the_same_kind() -> None:
    assert all(is_loopback(urlsplit(place).hostname or "") is kind for kind, place in PLACES.items())


def test_other_requests_are_served_meanwhile(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = threading.Event(), threading.Event()
    examine: Callable[..., bytes] = diagnosis._examined

    def slow(*args: Any) -> bytes:
        began.set()
        assert may_end.wait(20)
        return examine(*args)

    monkeypatch.setattr(diagnosis, "_examined", slow)
    answers: list[int] = []
    caller = threading.Thread(target=lambda: answers.append(http.get("/api/v1/diagnosis").status_code))
    caller.start()
    try:
        assert began.wait(20)
        assert http.get("/api/v1/instances").status_code == 200
        assert answers == []
    finally:
        may_end.set()
        caller.join()
    assert answers == [200]


def test_a_controller_starts_without_the_rules() -> None:
    """They take longer to import than anything else of the start."""
    code = (
        "import sys, dbgpt_ctl.cli.commands.serve, dbgpt_ctl.controller.bootstrap\n"
        "late = ('dbgpt_ctl.diagnosis', 'dbgpt_ctl.client.responses')\n"
        "print(*(name for name in sys.modules if name.startswith(late)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


@pytest.mark.anyio
async def test_a_forgotten_drain_among_thousands_is_found(clock: ManualClock) -> None:
    """Instances that nothing is wrong with are not looked at one by one."""
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(days=9))
    for number in range(5000):
        await registry.register(Registration(InstanceKey("m@llm", "h", number + 1)))
    await registry.drain(InstanceKey("m@llm", "h", 4321))
    clock.advance(2 * DAY)
    app = create_app(ControllerSettings(), registry)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        (found,) = (await client.get("/api/v1/diagnosis")).json()["findings"]
    assert (found["code"], [each["subject"] for each in found["evidence"]]) == ("drained-long", ["m@llm/h:4321"])
