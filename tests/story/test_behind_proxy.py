"""Behind a real reverse proxy, nginx: who called, and what answers where the controller is dead."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.controller.conftest import TIMEOUT
from tests.support.clock import ManualClock
from tests.support.nginx import running_nginx
from tests.support.ports import free_port
from tests.support.process import ctl
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Behind = Callable[..., "Calls"]

CALLER, PROXY, OUTER_PROXY = "127.0.0.7", "127.0.0.8", "127.0.0.9"
ONE: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


class Calls:
    """Calls from CALLER to a controller behind proxies, and what the controller says of them."""

    def __init__(self, outside: httpx.Client, inside: str) -> None:
        self._outside = outside
        self._inside = inside

    def source(self, headers: list[tuple[str, str]] | None = None) -> str:
        """The address in the event of a drain; the facts of the drain have the same."""
        for verb in ("undrain", "drain"):
            answer = self._outside.post(f"/api/v1/{verb}", json=ONE, headers=headers)
            assert answer.status_code == 200
        event = httpx.get(f"{self._inside}/api/v1/events?limit=1", trust_env=False).json()["events"][0]
        assert (event["verb"], event["actor_name"]) == ("drain", None)
        assert answer.json()["instance"]["drain"]["by"] == event["address"]
        return str(event["address"])


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """Starts a controller with these settings, behind nginx; with `outer`, behind another one in front of that."""
    with ExitStack() as stack:

        def start(*, outer: bool = False, **settings: Any) -> Calls:
            registry = EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT)
            url = stack.enter_context(running_controller(registry, **settings))
            httpx.post(f"{url}/api/controller/models", json=ONE, trust_env=False)
            front = stack.enter_context(running_nginx(tmp_path / "inner", url, address=PROXY))
            if outer:
                front = stack.enter_context(running_nginx(tmp_path / "outer", front, address=OUTER_PROXY))
            transport = httpx.HTTPTransport(local_address=CALLER)
            client = httpx.Client(base_url=front, transport=transport, trust_env=False)
            return Calls(stack.enter_context(client), url)

        yield start


def test_the_caller_is_the_client_of_a_trusted_proxy(behind: Behind) -> None:
    calls = behind(trusted_proxies=PROXY)
    assert calls.source() == CALLER
    assert calls.source([("X-Forwarded-For", "198.51.100.7")]) == CALLER, "the client wrote it"
    assert calls.source([("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-For", PROXY)]) == CALLER
    assert calls.source([("X-Real-IP", "198.51.100.7"), ("Forwarded", "for=198.51.100.7")]) == CALLER


def test_without_the_setting_the_caller_is_the_proxy(behind: Behind) -> None:
    assert behind().source([("X-Forwarded-For", "198.51.100.7")]) == PROXY


def test_a_proxy_that_is_not_named_is_not_believed(behind: Behind) -> None:
    assert behind(trusted_proxies=OUTER_PROXY).source() == PROXY


def test_behind_two_proxies(behind: Behind) -> None:
    calls = behind(outer=True, trusted_proxies=f"{PROXY},{OUTER_PROXY}")
    assert calls.source() == CALLER
    assert calls.source([("X-Forwarded-For", "198.51.100.7")]) == CALLER


def test_of_two_proxies_only_the_inner_one_is_named(behind: Behind) -> None:
    assert behind(outer=True, trusted_proxies=PROXY).source([("X-Forwarded-For", CALLER)]) == OUTER_PROXY


@pytest.mark.parametrize(
    "line",
    [
        "health",
        "models list",
        "why qwen --no-probe",
        "doctor --no-probe",
        "status",
        "models drain qwen/10.0.0.4:8001",
    ],
)
def test_a_proxy_whose_controller_is_dead_is_named(tmp_path: Path, line: str) -> None:
    with running_nginx(tmp_path / "proxy", f"http://127.0.0.1:{free_port()}", address=PROXY) as front:
        done = ctl(*line.split(), "-a", front, expect=3)
    said = done.out + done.err
    assert "502 Bad Gateway from a proxy (nginx" in said
    assert "start the controller behind the proxy" in said
