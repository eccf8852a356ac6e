"""Endpoints of a controller that forwards: a request that it has forwarded itself is refused (see `forwarding`).

Imported only where the registry forwards: any other controller ends the way of a request, and serves plain endpoints.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING

from dbgpt_ctl import forwarding
from dbgpt_ctl.controller.http.routes import JSON
from dbgpt_ctl.errors import ForwardsToItself

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import Request
    from fastapi.responses import Response

    from dbgpt_ctl.controller.http.routes import Endpoint, Route


def with_loop_detection(routes: Iterable[Route], own_id: str) -> tuple[Route, ...]:
    """The same routes. Their endpoints raise ForwardsToItself for a request that has passed the controller with this
    id, and pass the hops of any other one on to the registry.
    """
    return tuple(
        replace(route, endpoint=_with_loop_detection(route.endpoint, own_id, is_stream=route.media_type != JSON))
        for route in routes
    )


def _with_loop_detection(endpoint: Endpoint, own_id: str, *, is_stream: bool) -> Endpoint:
    @wraps(endpoint)
    async def checked(request: Request) -> Response:
        hops = forwarding.incoming(request.scope["headers"])
        if not hops:
            return await endpoint(request)
        if forwarding.is_loop(hops, own_id):
            raise ForwardsToItself("this controller has forwarded the request itself, directly or over others")
        if is_stream:  # all watchers share a task, which would keep these hops
            return await endpoint(request)
        token = forwarding.HOPS.set(hops)
        try:
            return await endpoint(request)
        finally:
            forwarding.HOPS.reset(token)

    return checked
