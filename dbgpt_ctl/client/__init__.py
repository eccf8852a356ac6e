"""A client of any DB-GPT model controller, this package's or DB-GPT's own, blocking and asynchronous.

The calls are described once, in `calls`; here are the two ways to drive them. Importing this module is cheap: httpx is
imported when a client is made.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client.calls import ADVICE, Calls
from dbgpt_ctl.client.reported import ControllerHealth, InstanceList, ReportedInstance
from dbgpt_ctl.traceparent import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    import httpx

    from dbgpt_ctl.client.async_transport import AsyncTransport
    from dbgpt_ctl.client.calls import Flow
    from dbgpt_ctl.client.transport import Transport, Watch
    from dbgpt_ctl.instance import InstanceKey, Registration
    from dbgpt_ctl.traceparent import TraceContext

__all__ = ["AsyncControllerClient", "ControllerClient", "ControllerHealth", "InstanceList", "ReportedInstance"]

T = TypeVar("T")


class ControllerClient:
    """Blocking; may be used by several threads. `address` holds one or more URLs, comma separated (see `addresses`).

    `timeout`, in seconds, bounds each call over all controllers; `calls.Calls` says how they share it and when one is
    passed over.
    `trust_env` lets the proxies of the environment (http_proxy ...) have the calls. `watch` is told of each request;
    `trace` names the span that a call is in.

    Raises UsageError for a wrong address. Each call raises ControllerUnreachable, ControllerFailed, ControllerRefused
    or NotAllowed.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        trust_env: bool = False,
        transport: httpx.BaseTransport | None = None,
        advice: str = ADVICE,
        watch: Watch | None = None,
        trace: Callable[[], TraceContext | None] = CURRENT.get,
    ) -> None:
        self._calls = Calls(parse_addresses(address), timeout, monotonic, advice, trace=trace)
        from dbgpt_ctl.client.transport import Transport, client_options

        self._transport = Transport(client_options(self._calls.addresses, trust_env=trust_env), transport, watch)

    def register(self, sent: Registration) -> None:
        """Registers the instance, or updates and revives a known one."""
        return self._run(self._calls.register(sent))

    def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        """Takes the instance out of service, with `remove` out of the lists too.

        False for one that never was; DB-GPT's own controller says True to that as well.
        """
        return self._run(self._calls.deregister(key, remove=remove))

    def heartbeat(self, sent: Registration) -> bool:
        """Says that the instance lives. False for one that was deregistered: it has to register again."""
        return self._run(self._calls.heartbeat(sent))

    def health(self) -> list[ControllerHealth]:
        """Of each controller, in the order of the address. All are asked at once, each for `timeout`. Never raises."""
        flows = [self._calls.health(address) for address in self._calls.addresses]
        if len(flows) == 1:
            return [self._run(flows[0])]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(flows)) as threads:
            return list(threads.map(self._run, flows))

    def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> InstanceList:
        """All instances, or those of exactly this `NAME@TYPE`."""
        return self._run(self._calls.list(model_name, healthy_only=healthy_only))

    def close(self) -> None:
        """Lets go of the connections. Repeatable."""
        self._transport.close()

    def _run(self, flow: Flow[T]) -> T:
        return drive(flow, self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncControllerClient:
    """`ControllerClient` for one event loop: the same verbs and errors; the same arguments but `watch` and `trace`.

    Connections are kept alive. A call is in the span that `traceparent.CURRENT` names.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 5.0,
        trust_env: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        advice: str = ADVICE,
    ) -> None:
        self._calls = Calls(parse_addresses(address), timeout, monotonic, advice)
        from dbgpt_ctl.client.async_transport import AsyncTransport
        from dbgpt_ctl.client.transport import client_options

        self._transport = AsyncTransport(client_options(self._calls.addresses, trust_env=trust_env), transport)

    async def register(self, sent: Registration) -> None:
        """As `ControllerClient.register`."""
        return await self._run(self._calls.register(sent))

    async def deregister(self, key: InstanceKey, *, remove: bool = False) -> bool:
        """As `ControllerClient.deregister`."""
        return await self._run(self._calls.deregister(key, remove=remove))

    async def heartbeat(self, sent: Registration) -> bool:
        """As `ControllerClient.heartbeat`."""
        return await self._run(self._calls.heartbeat(sent))

    async def health(self) -> list[ControllerHealth]:
        """As `ControllerClient.health`."""
        from asyncio import gather

        return await gather(*(self._run(self._calls.health(address)) for address in self._calls.addresses))

    async def list(self, model_name: str | None = None, *, healthy_only: bool = False) -> InstanceList:
        """As `ControllerClient.list`."""
        return await self._run(self._calls.list(model_name, healthy_only=healthy_only))

    async def aclose(self) -> None:
        """Lets go of the connections. Repeatable."""
        await self._transport.aclose()

    async def _run(self, flow: Flow[T]) -> T:
        return await drive_async(flow, self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def drive(flow: Flow[T], transport: Transport) -> T:
    """Sends what the flow asks for until it has its result; raises what it raises."""
    try:
        request = next(flow)
        while True:
            request = flow.send(transport.send(request))
    except StopIteration as done:
        result: T = done.value
        return result


async def drive_async(flow: Flow[T], transport: AsyncTransport) -> T:
    """As `drive`."""
    try:
        request = next(flow)
        while True:
            request = flow.send(await transport.send(request))
    except StopIteration as done:
        result: T = done.value
        return result
