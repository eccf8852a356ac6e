"""The asynchronous twin of `transport`, in a module of its own: asyncio is no part of the start of `ctl`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from dbgpt_ctl.answers import Reply, Unanswered
from dbgpt_ctl.transport import MAX_CONNECTIONS, request_parts, too_late, unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dbgpt_ctl.calls import Request

MAX_IDLE = 20
"""How many connections stay open between calls."""


class AsyncTransport:
    """Asynchronous, for one event loop. At most MAX_CONNECTIONS requests are under way, the others wait their turn.

    Each of them has an httpx client to itself, since a pool of httpcore's looks at all its connections at each request:
    with fifty that costs more than the request does, and at a hundred calls no longer come through.
    """

    def __init__(self, options: Mapping[str, Any], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._options = {**options, "transport": transport}
        self._idle: list[httpx.AsyncClient] = []
        self._turn = asyncio.Semaphore(MAX_CONNECTIONS)
        self._closed = False

    async def send(self, request: Request) -> Reply | Unanswered:
        """What came of the request within its timeout, waiting and resolving the name included."""
        try:
            async with asyncio.timeout(request.timeout), self._turn, self._client() as client:
                response = await client.request(request.method, request.url, **request_parts(request))
        except TimeoutError:
            return too_late(request)
        except httpx.RequestError as error:
            return unanswered(error, request)
        return Reply(response.status_code, response.headers, response.content)

    async def aclose(self) -> None:
        """Closes all connections; those in use when they are done. Repeatable."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        client = self._idle.pop() if self._idle else httpx.AsyncClient(**self._options)
        try:
            yield client
        finally:
            if self._closed or len(self._idle) >= MAX_IDLE:
                await client.aclose()
            else:
                self._idle.append(client)
