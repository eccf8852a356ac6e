"""What only the asynchronous client has: callers on shared connections, and many calls at once."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from dbgpt_ctl.client.aio import AsyncControllerClient
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.client.transport import MAX_CONNECTIONS
from dbgpt_ctl.domain.events import ActorKind
from tests.client.clients import SENT, Controllers, good
from tests.client.servers import working

if TYPE_CHECKING:
    import pytest

    from dbgpt_ctl.client.aio import AsyncTransport

ONLY_BLOCKING = {"watch", "close"}
ONLY_ASYNCHRONOUS = {"acting_as", "forwarding_for", "aclose", "address", "use_token"}


def test_both_clients_have_the_same_calls_with_the_same_arguments() -> None:
    blocking, asynchronous = (
        {name: inspect.signature(value) for name, value in vars(cls).items() if callable(value) and name[0] != "_"}
        for cls in (ControllerClient, AsyncControllerClient)
    )
    assert blocking.keys() - ONLY_BLOCKING == asynchronous.keys() - ONLY_ASYNCHRONOUS
    assert all(blocking[name].parameters == asynchronous[name].parameters for name in blocking.keys() - ONLY_BLOCKING)


def test_an_actor_shares_the_connections_and_the_order_of_controllers() -> None:
    controllers = Controllers(one=httpx.ConnectError("refused"), two=good)

    async def calls() -> None:
        async with AsyncControllerClient("http://one,http://two", transport=httpx.MockTransport(controllers)) as worker:
            operator = worker.acting_as(ActorKind.OPERATOR)
            await worker.heartbeat(SENT)
            await operator.deregister(SENT.key)
            await worker.heartbeat(SENT)

    asyncio.run(calls())
    assert controllers.tried == ["one", "two", "two", "two"]
    actors = [request.headers.get("x-ctl-actor") for request in controllers.requests]
    assert actors == [None, None, "operator", None]


def test_many_calls_at_once_take_their_turns_on_bounded_connections() -> None:
    with working() as here:

        async def calls() -> None:
            async with AsyncControllerClient(here.url, timeout=30) as client:
                await asyncio.gather(*(client.heartbeat(SENT) for _ in range(3 * MAX_CONNECTIONS)))

        asyncio.run(calls())
        assert len(here.lines) == 3 * MAX_CONNECTIONS
        assert len(here.connections) <= MAX_CONNECTIONS


def test_idle_connections_of_a_burst_are_closed_by_later_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgpt_ctl.client.aio.IDLE_SECONDS", 0.0)

    async def calls(client: AsyncControllerClient) -> list[int]:
        transport: AsyncTransport = client._transport
        await asyncio.gather(*(client.heartbeat(SENT) for _ in range(3)))
        counts = [len(transport._idle)]
        await client.aclose()
        return [*counts, len(transport._idle)]

    with working() as here:
        after_burst, after_close = asyncio.run(calls(AsyncControllerClient(here.url)))
    assert after_burst < 3
    assert after_close == 0


def test_the_blocking_client_does_not_import_asyncio() -> None:
    code = (
        "import sys, dbgpt_ctl as c; c.ControllerClient('http://one').close(); "
        "print('asyncio' in sys.modules, 'dbgpt_ctl.client.aio' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", "False"]
