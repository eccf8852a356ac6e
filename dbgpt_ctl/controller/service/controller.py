"""`Controller`: the current registry, and the tasks that run beside the endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.background import background_task
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.auth.long_answers import LongAnswers
from dbgpt_ctl.controller.logs.state_log import StateLog
from dbgpt_ctl.controller.metrics.counters import Counters
from dbgpt_ctl.controller.service import checks
from dbgpt_ctl.controller.service.checks import LoopLag
from dbgpt_ctl.controller.service.large_lists import LargeLists
from dbgpt_ctl.controller.watch.feed import Feed
from dbgpt_ctl.errors import CtlError, RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.contract import RegistryHealth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from datetime import datetime

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.controller.audit.audit_log import AuditLog
    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.http.callers import HttpScope
    from dbgpt_ctl.controller.http.connections import ConnectionFigures
    from dbgpt_ctl.controller.http.tls import TlsListener
    from dbgpt_ctl.controller.logs.log_file import LogFile
    from dbgpt_ctl.domain.controllers import Check
    from dbgpt_ctl.registry.contract import ModelRegistry

log = logging.getLogger(__name__)

FIRST_RETRY_SECS = 0.25
LAST_RETRY_SECS = 2.0
FIRST_OPEN_SECS = 3.0
"""How long the first requests wait for a registry that opens slowly; a worker whose register fails ends itself."""
STATE_LOG_SECS = 1.0
"""How often changes of state are logged."""


class Controller:
    """Holds the registry that the endpoints use; it can be swapped while requests are served.

    `poll_secs`: how often events are read while a client watches (see `feed`). `settings`: what /api/v1/status reports.
    `deny_loopback_hosts`: refuse instances whose host is a loopback address or name (see `domain.hosts`).
    `access`: the check of requests, of which status and health report; None where there is none. `counters`: what is
    counted for metrics.

    `running()` opens the registry, again and again while it is unavailable, and logs changes of state. At its end it
    closes the registry. `on_unusable` is called when the registry needs a person: `ctl serve` ends the process then, a
    foreign application continues with health 503.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        *,
        poll_secs: float = 0.2,
        settings: Mapping[str, Any] | None = None,
        deny_loopback_hosts: bool = False,
        access: Access | None = None,
        counters: Counters | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.registry = registry
        self.state_log = StateLog()
        self.loop_lag = LoopLag()
        self.feed = Feed(lambda: self.registry, poll_secs=poll_secs)
        self.settings = dict(settings or {})
        self.deny_loopback_hosts = deny_loopback_hosts
        self.access = access
        self.counters = counters or Counters()
        self._own_now = (clock or SystemClock()).now
        self._started_at = self._own_now()
        self.log_file: LogFile | None = None
        self.audit_log: AuditLog | None = None
        self.long_answers = LongAnswers(access.refusal_of if access else lambda _scope: None, self._drop)
        if access is not None:
            access.changed = self.long_answers.examine
        self.large_lists = LargeLists(self._drop_reader, self.long_answers)
        self.connections: ConnectionFigures | None = None
        """Those of its server; None inside a foreign application."""
        self.tls: TlsListener | None = None
        self.on_unusable: Callable[[RegistryUnusable], None] = lambda error: log.critical("%s", error)

    def serve_with(self, connections: ConnectionFigures | None, tls: TlsListener | None = None) -> None:
        """Tells it of the server's connections and of its listener for TLS, if it has a server of its own. Watches may
        take half of the connections.
        """
        self.connections, self.tls = connections, tls
        if connections is not None:
            self.feed.max_watchers = min(self.feed.max_watchers, connections.limit // 2)

    def _drop_reader(self, client: Any) -> bool:
        """Ends the connection of the client with this address and port; whether there is such a one."""
        return self.connections is not None and self.connections.drop_reader(client)

    def _drop(self, scopes: Collection[HttpScope]) -> None:
        """Ends the connections on which the requests came, if their server is ours."""
        if self.connections is not None:
            self.connections.drop({scope.get("client") for scope in scopes})

    @property
    def clock_offset(self) -> timedelta:
        """The registry's clock minus this host's, in whole seconds, so that it stays the same while both go right; zero
        while it is not known.
        """
        return timedelta(seconds=round(self.registry.figures().clock_offset_secs or 0.0))

    def now(self) -> datetime:
        """The registry's time, as far as it is known without a call (rule 7)."""
        return self._own_now() + self.clock_offset

    @property
    def started_at(self) -> datetime:
        """By the registry's clock."""
        return self._started_at + self.clock_offset

    @property
    def readers_dropped(self) -> int:
        """How many connections were closed because the peer did not take a list or a watch."""
        return self.feed.closed["slow"] + (self.connections.readers_dropped if self.connections else 0)

    @property
    def leaving(self) -> bool:
        """Whether the controller ends soon. Clients then move away while their requests are still served (rule 11);
        watches end at once.
        """
        return self.feed.leaving

    def leave(self) -> None:
        """Begins to leave; it cannot be taken back."""
        self.feed.leave()

    def health(self) -> RegistryHealth:
        """The health of the current registry; not ready when this controller leaves."""
        if self.leaving:
            return RegistryHealth(ready=False, checks=(checks.shutdown(leaving=True),))
        return self.registry_health()

    def registry_health(self) -> RegistryHealth:
        """The health of the current registry, also while this controller leaves. It also says that the log or the audit
        log cannot be written, which no line of them can say, and that the tokens file cannot be used.
        """
        return self.registry.health().with_checks(*checks.of_files(self.log_file, self.audit_log, self.access))

    def checks(self) -> tuple[Check, ...]:
        """What is known of each part of this controller and of its registry. More is looked at than health reports: a
        failed check does not make the controller less ready.
        """
        figures = self.registry.figures()
        return (
            checks.shutdown(leaving=self.leaving),
            *self.registry_health().checks,
            *([checks.clock(figures.clock_offset_secs)] if figures.clock_offset_secs else []),  # 0.0: it is one clock
            checks.event_loop(self.loop_lag.seconds),
            checks.queue(figures.waiting_calls),
            *([] if self.tls is None else [checks.certificate(self.tls.certificate, self.now())]),
        )

    async def swap(self, registry: ModelRegistry) -> None:
        """Opens `registry`, lets the next request use it, and closes the previous one. Raises what `open` raises; then
        nothing has changed.
        """
        await registry.open()
        before, self.registry = self.registry, registry
        await before.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Opens the registry in the background, so that health can report why it takes long, and measures the lag of
        the event loop.
        """
        tried = asyncio.Event()
        try:
            async with background_task(self._open_and_follow(tried), "registry"):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(tried.wait(), FIRST_OPEN_SECS)
                async with self.loop_lag.measured():
                    yield
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._log_states(), STATE_LOG_SECS)
            await self.feed.close()
            await self.registry.close()

    async def _open_and_follow(self, tried: asyncio.Event) -> None:
        await self._open(tried)
        while True:
            await asyncio.sleep(STATE_LOG_SECS)
            self._tell_clock()
            await self._log_states()
            if self.log_file is not None and self.log_file.problem is not None:
                log.warning(
                    "lines are missing here: %s", self.log_file.problem, extra={"event": "log.lines_missing"}
                )  # if it can be written again

    async def _open(self, tried: asyncio.Event) -> None:
        delay, logged = FIRST_RETRY_SECS, ""
        while True:
            try:
                await self.registry.open()
                self._tell_clock()
                await self._log_states()  # before the first request, so that each of its changes is logged
            except RegistryUnusable as error:
                self.on_unusable(error)
                return
            except Exception as error:  # whatever it is, the next attempt may succeed
                if repr(error) != logged and isinstance(error, RegistryUnavailable):
                    log.warning("waiting for the registry: %s", error, extra={"event": "registry.unavailable"})
                elif repr(error) != logged:
                    log.exception("the registry does not open", extra={"event": "registry.unavailable"})
                logged = repr(error)
            else:
                if logged:
                    log.info("the registry is back", extra={"event": "registry.available"})
                return
            finally:
                tried.set()
            await asyncio.sleep(delay)
            delay = min(delay * 2, LAST_RETRY_SECS)

    def _tell_clock(self) -> None:
        if self.access is not None:
            self.access.follow_clock(self.clock_offset)

    async def _log_states(self) -> None:
        try:
            await self.state_log.follow(self.registry)
        except CtlError:
            pass  # health, and the requests themselves, report a registry that is unavailable
        except Exception:
            log.exception("changes of state could not be logged")
