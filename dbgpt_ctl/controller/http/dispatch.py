"""A short cut to the endpoints that a cluster calls all the time, around FastAPI's routing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import Request

from dbgpt_ctl.controller.api import problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from dbgpt_ctl.controller.api.routes import Endpoint

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[None]]
    Application = Callable[[Any, Receive, Send], Awaitable[None]]


class ExactDispatch:
    """ASGI middleware that calls the endpoint of an exact method and path, and leaves all other requests to the
    application behind it.

    The application has the same endpoints as routes, and errors become the same answers. Only FastAPI's routing and
    dependency injection are left out, which these endpoints do not use. They are three quarters of the cost of a
    heartbeat.
    """

    def __init__(self, app: Application, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except Exception as error:  # noqa: BLE001 - every error becomes a problem, as in the application
            response = await problems.answer(request, error)
        await response(scope, receive, send)
