"""The client of a controller under DB-GPT's names, for code that was written against DB-GPT's."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from dbgpt_ctl.addresses import parse_addresses
from dbgpt_ctl.client import drive_async
from dbgpt_ctl.client.async_transport import AsyncTransport
from dbgpt_ctl.client.calls import Calls
from dbgpt_ctl.client.transport import client_options
from dbgpt_ctl.domain.instance import InstanceState, Registration
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from dbgpt_ctl.addresses import Address
    from dbgpt_ctl.client.calls import Flow
    from dbgpt_ctl.client.models import ReportedInstance

T = TypeVar("T")
IMPATIENT_SECONDS = 0.5
"""How often health is asked while no controller is up."""


class InstanceLike(Protocol):
    """An object with DB-GPT's attribute names, as its ModelInstance or a ReportedInstance. What it lacks is default."""

    model_name: str
    host: str
    port: int


class ModelRegistryClient:
    """DB-GPT's class of this name: its arguments and its methods.

    A call that one controller cannot serve goes on to the next, repeating is safe, and each error says its reason
    (`calls.Calls`). `choice_type` says whom to ask first of the controllers that are up: `latest_first` the first of
    `urls`, `random` any.

    With `check_health`, controllers whose /api/health is not exactly 200 are left out. No thread does that: a call that
    finds the last check older than `health_check_interval_secs` begins the next one in its event loop and goes on with
    what is known. Only while no controller is up it waits, at most `health_check_timeout_secs`, then it tries them all.

    Nothing stays open between calls: any event loop and any thread may use it, and there is nothing to close.
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
        chooser: random.Random | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if choice_type not in {"latest_first", "random"}:
            raise UsageError(f"choice_type {choice_type!a} is neither latest_first nor random")
        addresses = parse_addresses(urls if isinstance(urls, str) else ",".join(urls))
        self._calls = Calls(addresses, timeout, monotonic, "set urls", order=self._order, note=self._note)
        self._options = client_options(addresses, trust_env=trust_env)
        self._transport = transport
        self._choice_type = choice_type
        self._chooser = chooser or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._monotonic = monotonic
        self._check_health = check_health
        self._interval = health_check_interval_secs
        self._patience = health_check_timeout_secs
        self._up: dict[Address, bool] = {}
        self._checked_at: float | None = None
        self._checks: list[asyncio.Task[None]] = []

    async def register_instance(self, instance: InstanceLike) -> bool:
        """True, or an error."""
        await self._call(self._calls.register(_registration(instance)))
        return True

    async def deregister_instance(self, instance: InstanceLike) -> bool:
        """Removes it too if its `remove_from_registry` is true. False for one that was never known."""
        remove = bool(getattr(instance, "remove_from_registry", False))
        return await self._call(self._calls.deregister(_registration(instance).key, remove=remove))

    async def send_heartbeat(self, instance: InstanceLike) -> bool:
        """False for one that was deregistered: it has to register again."""
        return await self._call(self._calls.heartbeat(_registration(instance)))

    async def get_all_instances(
        self,
        model_name: str | None = None,
        healthy_only: bool = False,  # noqa: FBT001 - DB-GPT's signature
    ) -> list[ReportedInstance]:
        """Those of exactly this `NAME@TYPE`, or all."""
        answer = await self._call(self._calls.list(model_name or None, healthy_only=healthy_only))
        return list(answer.instances)

    async def get_all_model_instances(self, healthy_only: bool = False) -> list[ReportedInstance]:  # noqa: FBT001
        """All instances of all models."""
        return await self.get_all_instances(healthy_only=healthy_only)

    async def select_one_health_instance(self, model_name: str) -> ReportedInstance | None:
        """One of the healthy and enabled, at random; None if there is none."""
        instances = await self.get_all_instances(model_name, healthy_only=True)
        routable = [each for each in instances if each.state is InstanceState.HEALTHY]
        return self._chooser.choice(routable) if routable else None

    def sync_get_all_instances(
        self,
        model_name: str | None = None,
        healthy_only: bool = False,  # noqa: FBT001 - DB-GPT's signature
    ) -> list[ReportedInstance]:
        """As `get_all_instances`, blocking. In a thread of its own: a caller's running loop does not matter."""
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(self.get_all_instances(model_name, healthy_only))).result()

    async def _call(self, flow: Flow[T]) -> T:
        if self._check_health:
            await self._until_one_is_up()
        return await self._run(flow)

    async def _run(self, flow: Flow[T]) -> T:
        transport = AsyncTransport(self._options, self._transport)
        try:
            return await drive_async(flow, transport)
        finally:
            await transport.aclose()

    def _order(self) -> Sequence[Address]:
        addresses = self._calls.addresses
        if self._check_health:
            addresses = [address for address in addresses if self._up.get(address)] or addresses
        return self._chooser.sample(addresses, len(addresses)) if self._choice_type == "random" else addresses

    def _note(self, address: Address, up: bool) -> None:  # noqa: FBT001 - a callback's shape
        self._up[address] = up

    async def _until_one_is_up(self) -> None:
        deadline = self._monotonic() + self._patience
        while True:
            self._begin_checks()
            left = deadline - self._monotonic()
            if any(self._up.values()) or left <= 0:
                return
            loop = asyncio.get_running_loop()
            pending = [check for check in self._checks if not check.done() and check.get_loop() is loop]
            if pending:
                await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(min(self._interval, IMPATIENT_SECONDS, left))

    def _begin_checks(self) -> None:
        now = self._monotonic()
        interval = self._interval if any(self._up.values()) else min(self._interval, IMPATIENT_SECONDS)
        if self._checked_at is None or now - self._checked_at >= interval:
            self._checked_at = now
            unfinished = [check for check in self._checks if not check.done()]
            self._checks = unfinished + [asyncio.create_task(self._check(each)) for each in self._calls.addresses]

    async def _check(self, address: Address) -> None:
        health = await self._run(self._calls.health(address))
        self._up[address] = health.status == 200  # noqa: PLR2004 - exactly this one


def _registration(instance: InstanceLike) -> Registration:
    """Raises InvalidInstance."""
    names = ("model_name", "host", "port", "weight", "check_healthy", "enabled", "prompt_template")
    return Registration.parse({name: getattr(instance, name, None) for name in names})
