"""The client of a controller under DB-GPT's names, for code that was written for DB-GPT's own client."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from dbgpt_ctl.client.aio import AsyncTransport, drive_async
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.failover import Failover
from dbgpt_ctl.client.transport import client_options
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.addresses import parse_addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from dbgpt_ctl.client.failover import Flow
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import Registration
    from dbgpt_ctl.settings.addresses import Address

T = TypeVar("T")
OUTAGE_CHECK_SECONDS = 0.5
"""The interval of health checks while no controller is healthy."""


class InstanceLike(Protocol):
    """An object with DB-GPT's attribute names, as its ModelInstance or a KnownInstance. Missing ones are default."""

    model_name: str
    host: str
    port: int


class ModelRegistryClient:
    """DB-GPT's class of this name: its arguments and its methods.

    A call that one controller cannot serve goes on to the next (`failover.Failover`); repeating a call is safe, and
    each error has its reason. `choice_type` decides which of the healthy controllers is tried first: `latest_first` the
    first of `urls`, `random` any of them. `ca_file` is that of `ControllerClient`.

    With `check_health`, controllers whose /api/health is not exactly 200 are left out. There is no thread for it: a
    call that finds the last check older than `health_check_interval_secs` starts the next one in its event loop and
    goes on with the last known result. Only while no controller is healthy a call waits, at most
    `health_check_timeout_secs`; then it tries all of them.

    No connection stays open between calls: any event loop and any thread may use the client, and it needs no close.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        health_check_interval_secs: float = 5,
        health_check_timeout_secs: float = 30,
        check_health: bool = True,  # noqa: FBT001 - DB-GPT's signature
        choice_type: Literal["latest_first", "random"] = "latest_first",
        *,
        timeout: float = 5.0,
        trust_env: bool = False,
        ca_file: str | None = None,
        chooser: random.Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if choice_type not in {"latest_first", "random"}:
            raise UsageError(f"choice_type {choice_type!a} is neither latest_first nor random")
        self._addresses = parse_addresses(urls if isinstance(urls, str) else ",".join(urls))
        self._healthy: dict[Address, bool] = {}
        self._calls = Calls(
            Failover(
                self._addresses, timeout, monotonic, "set urls", order=self._order, observe=self._healthy.__setitem__
            )
        )
        self._options = client_options(self._addresses, trust_env=trust_env, ca_file=ca_file)
        self._transport = transport
        self._choice_type = choice_type
        self._chooser = chooser or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._monotonic = monotonic
        self._check_health = check_health
        self._check_interval = health_check_interval_secs
        self._check_timeout = health_check_timeout_secs
        self._checked_at: float | None = None
        self._checks: list[asyncio.Task[None]] = []

    async def register_instance(self, instance: InstanceLike) -> bool:
        """Returns True, or raises."""
        await self._call(self._calls.register(_registration(instance)))
        return True

    async def deregister_instance(self, instance: InstanceLike) -> bool:
        """Also removes it if its `remove_from_registry` is true. False if it was never registered."""
        remove = bool(getattr(instance, "remove_from_registry", False))
        return await self._call(self._calls.deregister(_registration(instance).key, remove=remove))

    async def send_heartbeat(self, instance: InstanceLike) -> bool:
        """False if it was deregistered: it has to register again."""
        return await self._call(self._calls.heartbeat(_registration(instance)))

    async def get_all_instances(
        self,
        model_name: str | None = None,
        healthy_only: bool = False,  # noqa: FBT001 - DB-GPT's signature
    ) -> list[KnownInstance]:
        """The instances of exactly this `NAME@TYPE`, or all."""
        answer = await self._call(self._calls.list(model_name or None, healthy_only=healthy_only))
        return list(answer.instances)

    async def get_all_model_instances(self, healthy_only: bool = False) -> list[KnownInstance]:  # noqa: FBT001
        """All instances of all models."""
        return await self.get_all_instances(healthy_only=healthy_only)

    async def select_one_health_instance(self, model_name: str) -> KnownInstance | None:
        """One of the healthy and enabled instances, at random; None if there is none."""
        instances = await self.get_all_instances(model_name, healthy_only=True)
        routable = [instance for instance in instances if instance.routable]
        return self._chooser.choice(routable) if routable else None

    def sync_get_all_instances(
        self,
        model_name: str | None = None,
        healthy_only: bool = False,  # noqa: FBT001 - DB-GPT's signature
    ) -> list[KnownInstance]:
        """As `get_all_instances`, blocking. It runs in a thread of its own, so the caller may have a running loop."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(self.get_all_instances(model_name, healthy_only))).result()

    async def _call(self, flow: Flow[T]) -> T:
        if self._check_health:
            await self._wait_until_one_is_healthy()
        return await self._run(flow)

    async def _run(self, flow: Flow[T]) -> T:
        transport = AsyncTransport(self._options, self._transport)
        try:
            return await drive_async(flow, transport)
        finally:
            await transport.aclose()

    def _order(self) -> Sequence[Address]:
        addresses: Sequence[Address] = self._addresses
        if self._check_health:
            addresses = [address for address in addresses if self._healthy.get(address)] or addresses
        return self._chooser.sample(addresses, len(addresses)) if self._choice_type == "random" else addresses

    async def _wait_until_one_is_healthy(self) -> None:
        deadline = self._monotonic() + self._check_timeout
        while True:
            self._start_checks()
            left = deadline - self._monotonic()
            if any(self._healthy.values()) or left <= 0:
                return
            loop = asyncio.get_running_loop()
            pending = [check for check in self._checks if not check.done() and check.get_loop() is loop]
            if pending:
                await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(min(self._check_interval, OUTAGE_CHECK_SECONDS, left))

    def _start_checks(self) -> None:
        now, interval = self._monotonic(), self._check_interval
        if not any(self._healthy.values()):
            interval = min(interval, OUTAGE_CHECK_SECONDS)
        if self._checked_at is None or now - self._checked_at >= interval:
            self._checked_at = now
            unfinished = [check for check in self._checks if not check.done()]
            self._checks = unfinished + [asyncio.create_task(self._check(address)) for address in self._addresses]

    async def _check(self, address: Address) -> None:
        health = await self._run(self._calls.health(address))
        self._healthy[address] = health.status == 200  # noqa: PLR2004 - exactly this one


def _registration(instance: InstanceLike) -> Registration:
    """Raises InvalidInstance."""
    names = ("model_name", "host", "port", "weight", "check_healthy", "enabled", "prompt_template")
    return parse_registration({name: getattr(instance, name, None) for name in names})
