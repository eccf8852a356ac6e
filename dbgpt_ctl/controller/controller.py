"""`Controller`: the registry of the moment, and the two things that go on beside the endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.state_log import Journal
from dbgpt_ctl.controller.watch.feed import Feed
from dbgpt_ctl.errors import CtlError, RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.contract import RegistryHealth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.registry.contract import ModelRegistry

log = logging.getLogger(__name__)

FIRST_RETRY_SECS = 0.25
LAST_RETRY_SECS = 2.0
FIRST_OPEN_SECS = 3.0
"""So long the first requests wait for a registry that opens slowly; a worker whose register fails ends itself."""


class Controller:
    """Holds the registry that the endpoints use; it can be swapped while requests are served.

    All instances are looked at every `observe_interval_secs`, for the journal; after a look that took long, not before
    `observe_rest` times as long has passed.

    Events are read every `poll_secs` while somebody watches (see `feed`).

    `running()` opens the registry (again and again while it is unavailable) and keeps the journal until it is left;
    then the registry is closed. `on_unusable` is called when a person must act: `main.run` ends the process then, a
    foreign application goes on with health 503.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        *,
        observe_interval_secs: float = 5.0,
        observe_rest: float = 0.0,
        poll_secs: float = 0.2,
        facts: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.registry = registry
        self.journal = Journal()
        self.feed = Feed(lambda: self.registry, poll_secs=poll_secs)
        self.facts = dict(facts or {})
        """What its settings say of instances, as /api/v1/status tells it."""
        self.now = (clock or SystemClock()).now
        self.started_at: datetime = self.now()
        self.on_unusable: Callable[[RegistryUnusable], None] = lambda error: log.critical("%s", error)
        self._observe_interval_secs = observe_interval_secs
        self._observe_rest = observe_rest

    @property
    def leaving(self) -> bool:
        """Set before the end, so that clients move away while their requests are still served (rule 11); those who
        watch are told at once.
        """
        return self.feed.leaving

    @leaving.setter
    def leaving(self, leaving: bool) -> None:
        if leaving:
            self.feed.leave()
        else:
            self.feed.leaving = False

    def health(self) -> RegistryHealth:
        """The health of the registry of the moment, until this controller leaves."""
        if self.leaving:
            return RegistryHealth(ready=False, reason="this controller is leaving")
        return self.registry.health()

    async def swap(self, registry: ModelRegistry) -> None:
        """Opens `registry`, lets the next request use it, and closes the one before. Raises what `open` raises; then
        nothing has changed.
        """
        await registry.open()
        before, self.registry = self.registry, registry
        await before.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Opens the registry in the background, so that health can tell why it takes long."""
        tried = asyncio.Event()
        tasks = [
            asyncio.create_task(self._open(tried), name="open registry"),
            asyncio.create_task(self._observe(), name="observe instances"),
        ]
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tried.wait(), FIRST_OPEN_SECS)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.feed.close()
            await self.registry.close()

    async def _open(self, tried: asyncio.Event) -> None:
        delay, told = FIRST_RETRY_SECS, ""
        while True:
            try:
                await self.registry.open()
            except RegistryUnusable as error:
                self.on_unusable(error)
                return
            except Exception as error:  # noqa: BLE001 - told, or it would never open and nobody knew why
                told = _tell(error, told)
            else:
                if told:
                    log.info("the registry is back")
                return
            finally:
                tried.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECS)

    async def _observe(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            delay, began = self._observe_interval_secs, loop.time()
            try:
                self.journal.observe(await self.registry.list())
                delay = max(delay, self._observe_rest * (loop.time() - began))
            except CtlError:  # health and the requests themselves tell of a registry that is away
                delay = min(delay, LAST_RETRY_SECS)
            except Exception:  # the journal's loop outlives any error of a registry
                log.exception("a look at all instances failed")
            await asyncio.sleep(delay)


def _tell(error: Exception, told: str) -> str:
    """Logs why the registry does not open, unless that was what was told last; returns what is told now."""
    if repr(error) == told:
        return told
    if isinstance(error, RegistryUnavailable):
        log.warning("waiting for the registry: %s", error)
    else:
        log.error("the registry does not open", exc_info=error)
    return repr(error)
