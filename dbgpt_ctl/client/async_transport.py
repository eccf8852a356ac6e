"""The asynchronous twin of `transport`, in a module of its own: asyncio is no part of the start of `ctl`."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from dbgpt_ctl.client.responses import Reply, Unanswered
from dbgpt_ctl.client.transport import IDLE_SECONDS, MAX_CONNECTIONS, request_parts, too_late, unanswered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dbgpt_ctl.client.calls import Request


class AsyncTransport:
    """Asynchronous, for one event loop. At most MAX_CONNECTIONS requests are under way, the others wait their turn.

    Each of them has an httpx client to itself, since a pool of httpcore's looks at all its connections at each request:
    with fifty that costs more than the request does, and at a hundred calls no longer come through.
    """

    def __init__(self, options: Mapping[str, Any], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._options = {**options, "transport": transport}
        self._idle: deque[_Idle] = deque()
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
            await self._idle.pop().client.aclose()

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        client = self._idle.pop().client if self._idle else httpx.AsyncClient(**self._options)
        try:
            yield client
        finally:
            if self._closed:
                await client.aclose()
            else:
                await self._keep(client)

    async def _keep(self, client: httpx.AsyncClient) -> None:
        """The last one kept is the next one used; of those that a burst left behind, each call closes one."""
        now = monotonic()
        self._idle.append(_Idle(client, now))
        if now - self._idle[0].since > IDLE_SECONDS:
            await self._idle.popleft().client.aclose()


class _Idle(NamedTuple):
    client: httpx.AsyncClient
    since: float
