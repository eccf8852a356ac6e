"""`AsyncControllerClient`: drives the flows of `calls` with an asynchronous transport."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client.calls import ADVICE, Calls

if TYPE_CHECKING:
    import builtins
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Self

    import httpx

    from dbgpt_ctl.client.async_transport import AsyncTransport
    from dbgpt_ctl.client.calls import Flow
    from dbgpt_ctl.client.details import ControllerStatus, Drained, EventReport, Inventory, KnownInstance
    from dbgpt_ctl.client.models import ControllerHealth, InstanceList
    from dbgpt_ctl.domain.instance import InstanceKey, Registration

T = TypeVar("T")


class AsyncControllerClient:
    """`ControllerClient` for one event loop: the same verbs and errors; the same arguments but `watch` and `trace`. It
    cannot watch.

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
        actor: str | None = None,
    ) -> None:
        self._calls = Calls(parse_addresses(address), timeout, monotonic, advice, actor=actor)
        from dbgpt_ctl.client.async_transport import AsyncTransport
        from dbgpt_ctl.client.transport import client_options

        self._transport = AsyncTransport(client_options(self._calls.addresses, trust_env=trust_env), transport)

    @property
    def address(self) -> str:
        """The URLs, comma separated, without secrets."""
        return ",".join(map(str, self._calls.addresses))

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

    async def instances(
        self, model_name: str | None = None, *, host: str | None = None, state: str | None = None
    ) -> Inventory:
        """As `ControllerClient.instances`."""
        return await self._run(self._calls.instances(model_name, host=host, state=state))

    async def inventory(
        self, model_name: str | None = None, *, host: str | None = None, require_complete: bool = False
    ) -> Inventory:
        """As `ControllerClient.inventory`."""
        return await self._run(self._calls.inventory(model_name, host=host, require_complete=require_complete))

    async def get(self, key: InstanceKey) -> KnownInstance:
        """As `ControllerClient.get`."""
        return await self._run(self._calls.get(key))

    async def drain(self, key: InstanceKey, *, reason: str | None = None) -> Drained:
        """As `ControllerClient.drain`."""
        return await self._run(self._calls.drain(key, reason=reason))

    async def undrain(self, key: InstanceKey) -> Drained:
        """As `ControllerClient.undrain`."""
        return await self._run(self._calls.undrain(key))

    async def prune(self, older_than: timedelta, *, dry_run: bool = False) -> builtins.list[InstanceKey]:
        """As `ControllerClient.prune`."""
        return await self._run(self._calls.prune(older_than, dry_run=dry_run))

    async def events(
        self,
        *,
        after: int | None = None,
        since: datetime | None = None,
        model_name: str | None = None,
        host: str | None = None,
        port: int | None = None,
        limit: int = 1000,
    ) -> EventReport:
        """As `ControllerClient.events`."""
        return await self._run(
            self._calls.events(after=after, since=since, model_name=model_name, host=host, port=port, limit=limit)
        )

    async def status(self) -> ControllerStatus:
        """As `ControllerClient.status`."""
        return await self._run(self._calls.status())

    def acting_as(self, actor: str | None) -> AsyncControllerClient:
        """The same client, on the same connections, for calls of that actor. Closing either closes both."""
        other = copy(self)
        other._calls = replace(self._calls, actor=actor)  # noqa: SLF001 - its own kind
        return other

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


async def drive_async(flow: Flow[T], transport: AsyncTransport) -> T:
    """As `drive`."""
    try:
        request = next(flow)
        while True:
            request = flow.send(await transport.send(request))
    except StopIteration as done:
        result: T = done.value
        return result
