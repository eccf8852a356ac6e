"""`ModelRegistryClient`: DB-GPT's names, choice of a controller, health checks."""

from __future__ import annotations

import asyncio
import json
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import dbgpt_ctl
from dbgpt_ctl.client.dbgpt_compat import ModelRegistryClient
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.errors import ControllerUnreachable, InvalidInstance, UsageError
from tests.client.clients import OBJECT, Controllers, good, problem
from tests.client.servers import behaving, black_hole, closed_port, read_request, reply, working

if TYPE_CHECKING:
    import socket

REFUSED = httpx.ConnectError("Connection refused")
INSTANCE = KnownInstance("qwen@llm", "10.0.0.4", 8001, weight=0.5, prompt_template="p")


class Time:
    """A monotonic clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def client_of(controllers: Controllers, time: Time | None = None, **options: Any) -> ModelRegistryClient:
    urls = [f"http://{host}" for host in controllers.hosts]
    return ModelRegistryClient(urls, transport=httpx.MockTransport(controllers), monotonic=time or Time(), **options)


def served_by(controllers: Controllers) -> list[str]:
    """The controllers that were called, without health checks."""
    return [request.url.host for request in controllers.requests if request.url.path != "/api/health"]


def checked(controllers: Controllers) -> list[str]:
    return [request.url.host for request in controllers.requests if request.url.path == "/api/health"]


def leaving(request: httpx.Request) -> httpx.Response:
    """Serves, but reports that it is about to end."""
    is_check = request.url.path == "/api/health"
    return problem(503, "leaving", "registry_unavailable") if is_check else good(request)


def test_the_methods_send_the_verbs() -> None:
    controllers = Controllers(one=good)
    client = client_of(controllers, check_health=False)

    async def calls() -> list[Any]:
        return [
            await client.register_instance(INSTANCE),
            await client.send_heartbeat(INSTANCE),
            await client.deregister_instance(INSTANCE),
            await client.deregister_instance(SimpleNamespace(**OBJECT, remove_from_registry=True)),
            await client.get_all_instances("a@llm", True),
            await client.get_all_instances(),
            await client.get_all_instances(""),
            await client.get_all_model_instances(healthy_only=True),
        ]

    listed = [KnownInstance.read(OBJECT)]
    assert asyncio.run(calls()) == [True, True, True, True, listed, listed, listed, listed]
    lines = [f"{request.method} {request.url.raw_path.decode()}" for request in controllers.requests]
    assert [line.partition("?")[0] for line in lines[:4]] == [
        "POST /api/controller/models",
        "POST /api/controller/heartbeat",
        "DELETE /api/controller/models",
        "DELETE /api/controller/models",
    ]
    assert [line.rpartition("=")[2] for line in lines[2:4]] == ["false", "true"]
    assert lines[4:] == [
        "GET /api/controller/models?model_name=a%40llm&healthy_only=true",
        "GET /api/controller/models",
        "GET /api/controller/models",
        "GET /api/controller/models?healthy_only=true",
    ]
    body = json.loads(controllers.requests[0].content)
    assert (body["weight"], body["prompt_template"], body["healthy"]) == (0.5, "p", False)


def test_an_object_with_only_an_identity_is_enough() -> None:
    controllers = Controllers(one=good)
    bare = SimpleNamespace(model_name="a@llm", host="h", port=1)
    assert asyncio.run(client_of(controllers, check_health=False).register_instance(bare))
    assert json.loads(controllers.requests[0].content)["weight"] == 1.0


def test_a_wrong_instance_is_refused_before_any_request() -> None:
    controllers = Controllers(one=good)
    wrong = SimpleNamespace(model_name="a", host="h", port=1)
    with pytest.raises(InvalidInstance, match="model_name"):
        asyncio.run(client_of(controllers).register_instance(wrong))
    assert controllers.requests == []


def test_wrong_arguments() -> None:
    with pytest.raises(UsageError, match="choice_type 'best'"):
        ModelRegistryClient("http://a", choice_type="best")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="port is 0"):
        ModelRegistryClient("http://a:0")


def test_it_is_a_public_name() -> None:
    assert dbgpt_ctl.ModelRegistryClient is ModelRegistryClient


def test_urls_as_a_string() -> None:
    with working() as here:
        client = ModelRegistryClient(f"{closed_port()}, {here.url}/")
        assert asyncio.run(client.get_all_instances()) == [KnownInstance.read(OBJECT)]


def test_of_healthy_and_enabled_instances_one_is_chosen_at_random() -> None:
    objects = [OBJECT | {"port": port, "enabled": port != 2, "healthy": port != 3} for port in range(1, 6)]
    controllers = Controllers(one=httpx.Response(200, json=objects))
    client = client_of(controllers, check_health=False, chooser=random.Random(1))

    async def choose() -> list[Any]:
        return [await client.select_one_health_instance("qwen@llm") for _ in range(40)]

    assert {instance.port for instance in asyncio.run(choose())} == {1, 4, 5}
    assert controllers.requests[0].url.query == b"model_name=qwen%40llm&healthy_only=true"
    controllers.hosts["one"] = httpx.Response(200, json=objects[1:3])
    assert asyncio.run(client.select_one_health_instance("qwen@llm")) is None


@pytest.mark.parametrize("unhealthy", [leaving, REFUSED, httpx.Response(204)])
def test_controllers_that_are_not_healthy_are_left_out(unhealthy: Any) -> None:
    controllers = Controllers(one=unhealthy, two=good)
    client = client_of(controllers)

    async def calls() -> None:
        for _ in range(3):
            await client.get_all_instances()

    asyncio.run(calls())
    assert served_by(controllers) == ["two", "two", "two"]
    assert sorted(checked(controllers)) == ["one", "two"]


def test_without_health_checks_all_are_tried() -> None:
    controllers = Controllers(one=leaving, two=good)
    asyncio.run(client_of(controllers, check_health=False).get_all_instances())
    assert (served_by(controllers), checked(controllers)) == (["one"], [])


@pytest.mark.parametrize("check_health", [True, False])
def test_latest_first_is_the_first_that_serves(check_health: bool) -> None:
    controllers = Controllers(one=REFUSED, two=good, three=good)
    client = client_of(controllers, check_health=check_health)

    async def calls() -> None:
        await client.get_all_instances()
        await asyncio.gather(*client._checks)
        controllers.requests.clear()
        await client.get_all_instances()

    asyncio.run(calls())
    assert served_by(controllers)[-1] == "two"


def test_random_spreads_over_the_healthy() -> None:
    controllers = Controllers(one=good, two=good, three=leaving)
    client = client_of(controllers, choice_type="random", chooser=random.Random(1))

    async def calls() -> None:
        await client.get_all_instances()
        await asyncio.gather(*client._checks)
        controllers.requests.clear()
        for _ in range(40):
            await client.get_all_instances()

    asyncio.run(calls())
    assert set(served_by(controllers)) == {"one", "two"}


def test_health_is_checked_once_an_interval_and_by_use_only() -> None:
    controllers, time = Controllers(one=good), Time()
    client = client_of(controllers, time, health_check_interval_secs=5)

    async def calls() -> list[int]:
        counts = [len(checked(controllers))]
        for step in (0.0, 4.9, 0.2, 4.9, 60.0):
            time.now += step
            await client.get_all_instances()
            await asyncio.gather(*client._checks)
            counts.append(len(checked(controllers)))
        return counts

    assert asyncio.run(calls()) == [0, 1, 1, 2, 2, 3]


def test_a_controller_that_becomes_unhealthy_is_left_out_and_taken_back() -> None:
    controllers, time = Controllers(one=good, two=good), Time()
    client = client_of(controllers, time)

    async def call() -> None:
        time.now += 10
        await client.get_all_instances()
        await asyncio.gather(*client._checks)
        controllers.requests.clear()
        await client.get_all_instances()

    asyncio.run(call())
    assert served_by(controllers) == ["one"]
    controllers.hosts["one"] = leaving
    asyncio.run(call())
    assert served_by(controllers) == ["two"]
    controllers.hosts["one"] = good
    asyncio.run(call())
    assert served_by(controllers) == ["one"]


def test_a_controller_that_fails_a_call_is_left_out_until_the_next_check() -> None:
    controllers = Controllers(one=good, two=good)
    client = client_of(controllers)

    async def calls() -> None:
        await client.get_all_instances()
        await asyncio.gather(*client._checks)
        controllers.requests.clear()
        controllers.hosts["one"] = httpx.ReadTimeout("x")
        await client.get_all_instances()
        await client.get_all_instances()

    asyncio.run(calls())
    assert served_by(controllers) == ["one", "two", "two"]


def test_it_waits_for_one_to_be_healthy() -> None:
    healths = iter([503, 204, 503, 200])

    def one(request: httpx.Request) -> httpx.Response:
        return good(request) if request.url.path != "/api/health" else httpx.Response(next(healths))

    client = ModelRegistryClient("http://one", health_check_interval_secs=0.001, transport=httpx.MockTransport(one))
    assert asyncio.run(client.get_all_instances()) == [KnownInstance.read(OBJECT)]
    assert list(healths) == []


def test_after_the_wait_it_tries_all_and_names_the_reasons() -> None:
    controllers = Controllers(one=REFUSED, two=httpx.Response(503))
    client = ModelRegistryClient(
        "http://one,http://two",
        health_check_interval_secs=0.001,
        health_check_timeout_secs=0.05,
        transport=httpx.MockTransport(controllers),
    )
    with pytest.raises(ControllerUnreachable, match="http://one: Connection refused; http://two: 503"):
        asyncio.run(client.get_all_instances())
    assert served_by(controllers) == ["one", "two"]


def test_a_silent_controller_delays_no_call_while_another_is_up() -> None:
    with black_hole() as away, working() as here:
        client = ModelRegistryClient(f"{away},{here.url}", timeout=60, health_check_interval_secs=0.001)

        async def calls() -> None:
            for _ in range(5):
                await client.get_all_instances()

        asyncio.run(asyncio.wait_for(calls(), 30))
        assert len([line for line in here.lines if "models" in line]) == 5


def test_one_client_serves_many_loops_and_threads() -> None:
    with working() as here:
        client = ModelRegistryClient(here.url, health_check_interval_secs=0)
        listed = [KnownInstance.read(OBJECT)]
        for _ in range(3):
            assert asyncio.run(client.get_all_instances()) == listed
            assert client.sync_get_all_instances("qwen@llm", healthy_only=True) == listed

        async def inside() -> list[KnownInstance]:
            return client.sync_get_all_instances()

        assert asyncio.run(inside()) == listed


def test_the_blocking_call_raises_the_same_errors() -> None:
    client = ModelRegistryClient(closed_port(), check_health=False)
    with pytest.raises(ControllerUnreachable, match="Connection refused"):
        client.sync_get_all_instances()


def test_credentials_go_with_health_checks_and_are_not_shown() -> None:
    requests: list[bytes] = []

    def behave(connection: socket.socket, _number: int) -> None:
        requests.append(read_request(connection))
        connection.sendall(reply(b"nonsense"))

    with behaving(behave) as url:
        client = ModelRegistryClient(url.replace("//", "//user:secret@"))
        with pytest.raises(Exception, match="not a DB-GPT controller") as caught:
            asyncio.run(client.get_all_instances())
    assert "secret" not in str(caught.value) + repr(client._calls)
    assert [b"Basic dXNlcjpzZWNyZXQ=" in request for request in requests] == [True, True]
