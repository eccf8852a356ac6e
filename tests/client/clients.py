"""The blocking and the asynchronous client, behind one function: each test of a call runs over both."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import CtlError

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[httpx.Request], httpx.Response]
    Call = Callable[[Any], Any]

KEY = InstanceKey("qwen@llm", "10.0.0.4", 8001)
SENT = Registration(KEY)
OBJECT = {
    "model_name": "qwen@llm",
    "host": "10.0.0.4",
    "port": 8001,
    "weight": 1.0,
    "check_healthy": True,
    "healthy": True,
    "enabled": True,
    "prompt_template": None,
    "last_heartbeat": "2026-01-02T03:04:05.678901+00:00",
}
VERBS: dict[str, Call] = {
    "register": lambda client: client.register(SENT),
    "heartbeat": lambda client: client.heartbeat(SENT),
    "deregister": lambda client: client.deregister(KEY),
    "list": lambda client: client.list(),
}


class MakeCalls(Protocol):
    """Opens one client, makes the calls with it and closes it. Returns the result or the CtlError of each call."""

    def __call__(self, address: str, *calls: Call, handler: Handler | None = None, **options: Any) -> list[Any]: ...


def make_calls_blocking(address: str, *calls: Call, handler: Handler | None = None, **options: Any) -> list[Any]:
    outcomes: list[Any] = []
    with ControllerClient(address, transport=_mock(handler), **options) as client:
        for call in calls:
            try:
                outcomes.append(call(client))
            except CtlError as error:
                outcomes.append(error)
    return outcomes


def make_calls_asynchronous(address: str, *calls: Call, handler: Handler | None = None, **options: Any) -> list[Any]:
    async def make_calls() -> list[Any]:
        outcomes: list[Any] = []
        async with AsyncControllerClient(address, transport=_mock(handler), **options) as client:
            for call in calls:
                try:
                    result = call(client)
                    outcomes.append(await result if inspect.isawaitable(result) else result)
                except CtlError as error:
                    outcomes.append(error)
        return outcomes

    return asyncio.run(make_calls())


def _mock(handler: Handler | None) -> httpx.MockTransport | None:
    return None if handler is None else httpx.MockTransport(handler)


class Controllers:
    """A handler for httpx.MockTransport: each host answers with its value; `requests` are kept."""

    def __init__(self, **hosts: httpx.Response | Exception | Handler) -> None:
        self.hosts = hosts
        self.requests: list[httpx.Request] = []

    @property
    def tried(self) -> list[str]:
        return [request.url.host for request in self.requests]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.hosts[request.url.host]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return answer(request)


def good(request: httpx.Request) -> httpx.Response:
    """A controller that knows one instance and has no /api/v1, such as DB-GPT's own."""
    if request.url.path.endswith("/api/health"):
        return httpx.Response(200, json={"status": "ok"})
    if "/api/v1/" in request.url.path:
        return httpx.Response(404, json={"detail": "Not Found"})
    return httpx.Response(200, json=[OBJECT] if request.method == "GET" else True)


def problem(status: int, detail: str, code: str) -> httpx.Response:
    content = json.dumps({"type": "about:blank", "title": "T", "status": status, "detail": detail, "code": code})
    return httpx.Response(status, headers={"content-type": "application/problem+json"}, content=content)
