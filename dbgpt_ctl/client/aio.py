"""`AsyncControllerClient`: runs the flows of `calls` in an event loop.

Nothing that `ctl` starts with imports this module: asyncio would add to its start.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from dbgpt_ctl.client.body import BodyReader
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import ADVICE, Failover
from dbgpt_ctl.client.httpx_internals import httpx
from dbgpt_ctl.client.responses import LONG_BYTES
from dbgpt_ctl.client.transport import (
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    NAME_ERRORS,
    client_options,
    no_response,
    request_parts,
    timed_out,
    without_name,
)
from dbgpt_ctl.settings.addresses import parse_addresses

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
    from typing import Self

    from dbgpt_ctl.client.failover import Flow, Outcome, Request
    from dbgpt_ctl.client.results import ControllerHealth
    from dbgpt_ctl.errors import Attempt

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    flow_of: Callable[Concatenate[Calls, P], Flow[T]],
) -> Callable[Concatenate[AsyncControllerClient, P], Coroutine[Any, Any, T]]:
    """The method of the client that runs this flow: the same arguments, and its result."""

    @wraps(flow_of)
    async def method(self: AsyncControllerClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await drive_async(flow_of(self._calls, *args, **kwargs), self._transport)

    return method


class AsyncControllerClient:
    """`ControllerClient` for one event loop: the same calls and errors, but no `watch`, and no arguments `watch` and
    `trace`. A call is in the span that `traceparent.CURRENT` names. Connections are kept alive.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        trust_env: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        advice: str = ADVICE,
        actor: str | None = None,
        ca_file: str | None = None,
        on_refusal: Callable[[Sequence[Attempt]], None] = lambda _attempts: None,
    ) -> None:
        addresses = parse_addresses(address)
        failover = Failover(addresses, timeout, monotonic, advice, on_refusal=on_refusal)
        self._calls = Calls(failover, actor=actor)
        options = client_options(addresses, trust_env=trust_env, ca_file=ca_file)
        self._transport = AsyncTransport(options, transport)

    @property
    def address(self) -> str:
        """The URLs, comma separated, without secrets."""
        return ",".join(map(str, self._calls.failover.addresses))

    register = _call(Calls.register)
    heartbeat = _call(Calls.heartbeat)
    deregister = _call(Calls.deregister)
    list = _call(Calls.list)
    instances = _call(Calls.instances)
    inventory = _call(Calls.inventory)
    get = _call(Calls.get)
    drain = _call(Calls.drain)
    undrain = _call(Calls.undrain)
    prune = _call(Calls.prune)
    events = _call(Calls.events)
    status = _call(Calls.status)
    auth = _call(Calls.auth)
    settings = _call(Calls.settings)
    console = _call(Calls.console)

    async def health(self) -> builtins.list[ControllerHealth]:
        """As `ControllerClient.health`."""
        flows = map(self._calls.health, self._calls.failover.addresses)
        return await asyncio.gather(*(drive_async(flow, self._transport) for flow in flows))

    def acting_as(self, actor: str | None) -> AsyncControllerClient:
        """The same client, on the same connections, for calls of that actor. Closing either closes both."""
        other = copy(self)
        other._calls = replace(self._calls, actor=actor)  # noqa: SLF001 - of the same class
        return other

    def forwarding_for(self, controller_id: str) -> AsyncControllerClient:
        """The same client, on the same connections, for calls that the controller with this id forwards."""
        other = copy(self)
        other._calls = replace(self._calls, forwarder_id=controller_id)  # noqa: SLF001 - of the same class
        return other

    def use_token(self, name: str, token: str) -> None:
        """Sends this token to each of its addresses from the next call on, also of the copies for other actors."""
        failover = self._calls.failover
        failover.addresses = tuple(replace(address, credentials=(name, token)) for address in failover.addresses)

    async def aclose(self) -> None:
        """Closes the connections. Repeatable."""
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def drive_async(flow: Flow[T], transport: AsyncTransport) -> T:
    """As `failover.drive`, in an event loop."""
    try:
        request = next(flow)
        while True:
            request = flow.send(await transport.send(request))
    except StopIteration as done:
        result: T = done.value
        return result


class AsyncTransport:
    """Sends requests over httpx in one event loop. At most MAX_CONNECTIONS requests run; the others wait their turn.
    Of answers that are longer than LONG_BYTES one is read at a time, so all together need little more than the longest.

    Each running request has an httpx client of its own, because a pool of httpcore looks at all its connections for
    each request: with fifty connections that costs more than the request itself, and with a hundred, calls time out.
    """

    def __init__(self, options: Mapping[str, Any], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._options = {**options, "transport": transport}
        self._idle: deque[_Idle] = deque()
        self._turn = asyncio.Semaphore(MAX_CONNECTIONS)
        self._long_answer = asyncio.Lock()
        self._closed = False

    async def send(self, request: Request) -> Outcome:
        """The outcome of the request within its timeout, which covers the wait for a turn and the name lookup."""
        try:
            async with asyncio.timeout(request.timeout), self._turn, self._client() as client:
                built = client.build_request(request.method, request.url, **request_parts(request))
                response = await client.send(built, stream=True)
                try:
                    return await self._read(response, request)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            return timed_out(request, error)
        except httpx.RequestError as error:
            return no_response(error, request)
        except NAME_ERRORS as error:
            return without_name(error, request)

    async def _read(self, response: httpx.Response, request: Request) -> Outcome:
        with BodyReader(response.status_code, response.headers, request) as reader:
            chunks = response.aiter_bytes()
            await _fill(reader, chunks, LONG_BYTES)
            if len(reader) > LONG_BYTES:
                async with self._long_answer:
                    await _fill(reader, chunks, request.max_bytes)
            return reader.outcome()

    async def aclose(self) -> None:
        """Closes all idle connections at once, and those in use when their request ends. Repeatable."""
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
        """The client that was kept last is used next. Each call closes one of those that a burst left behind."""
        now = monotonic()
        self._idle.append(_Idle(client, now))
        if now - self._idle[0].since > IDLE_SECONDS:
            await self._idle.popleft().client.aclose()


async def _fill(reader: BodyReader, chunks: AsyncIterator[bytes], size: int) -> None:
    """Reads until more than `size` bytes are there, or no more are to come or wanted."""
    while reader.wanted and len(reader) <= size and (chunk := await anext(chunks, None)) is not None:
        reader.add(chunk)


class _Idle(NamedTuple):
    client: httpx.AsyncClient
    since: float
