"""The checks of a controller: of each part, what is wrong with it. The registry has checks of its own (`health`).

One is how late the event loop is: whatever blocks it delays every request.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from dbgpt_ctl.background import background_task
from dbgpt_ctl.domain.controllers import EXPIRES_SOON, Check

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from datetime import datetime

    from dbgpt_ctl.controller.audit.audit_log import AuditLog
    from dbgpt_ctl.controller.auth.access import Access
    from dbgpt_ctl.controller.http.tls import WatchedCertificate
    from dbgpt_ctl.controller.logs.log_file import LogFile


EVERY_SECS = 1.0
KEPT = 30


class LoopLag:
    """Measures once in `every_secs` how late a task wakes, and keeps the last KEPT measurements.

    A delay that begins and ends between two measurements is not seen, so long delays are, and short ones only if there
    are many. A process that was stopped was late too.
    """

    def __init__(self, *, every_secs: float = EVERY_SECS, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every_secs = every_secs
        self._monotonic = monotonic
        self._last: deque[float] = deque(maxlen=KEPT)

    @property
    def seconds(self) -> float:
        """The largest of the measurements that are kept; 0.0 before the first one."""
        return max(self._last, default=0.0)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Measures until the block is left."""
        async with background_task(self._measure(), "event loop lag"):
            yield

    async def _measure(self) -> None:
        while True:
            due = self._monotonic() + self._every_secs
            await asyncio.sleep(self._every_secs)
            self._last.append(max(0.0, self._monotonic() - due))


MAX_LAG_SECS = 2.0
"""A DB-GPT client gives up after 5 s, and its request may meet several delays of the event loop."""
MAX_CLOCK_OFFSET_SECS = 5.0
"""More than a clock that is kept by NTP is ever wrong."""
MAX_WAITING_CALLS = 5000
"""Ten full batches: with a database that is well this is about a second of work."""


def shutdown(*, leaving: bool) -> Check:
    """Whether the controller stays."""
    return Check("shutdown", "this controller is leaving" if leaving else None)


def of_files(log_file: LogFile | None, audit_log: AuditLog | None, access: Access | None) -> Iterator[Check]:
    """The files that the controller was given, of which health reports the problems: the log and the audit log, where
    no line of them can say that they cannot be written, and the tokens file.
    """
    if log_file is not None:
        yield Check("log-file", log_file.problem)
    if audit_log is not None:
        yield Check("audit-log-file", audit_log.problem)
    if access is not None and access.in_force.file is not None:
        yield Check("tokens-file", access.tokens.problem)


def clock(offset_secs: float) -> Check:
    """Whether this host's clock and the registry's agree. `offset_secs`: the registry's minus this host's."""
    behind = "behind" if offset_secs > 0 else "ahead of"
    problem = f"this controller's clock is {abs(offset_secs):.0f} s {behind} its registry's"
    return Check("clock", problem if abs(offset_secs) > MAX_CLOCK_OFFSET_SECS else None)


def event_loop(lag_secs: float) -> Check:
    """Whether the event loop looked at requests in time. `lag_secs` is as `LoopLag` measures it."""
    span = f"{KEPT * EVERY_SECS:g} s"
    problem = f"requests waited {lag_secs:.1f} s for the event loop within the last {span}: it was busy, or stopped"
    return Check("event-loop", problem if lag_secs > MAX_LAG_SECS else None)


def queue(waiting_calls: int) -> Check:
    """Whether the registry keeps up with its calls."""
    problem = f"{waiting_calls} calls wait for a transaction of the registry, and clients give up after 5 s"
    return Check("queue", problem if waiting_calls > MAX_WAITING_CALLS else None)


def certificate(watched: WatchedCertificate, now: datetime) -> Check:
    """Whether clients accept the certificate in use, and will for some time."""
    not_after, problem = watched.current.not_after, watched.problem
    if problem is None and not_after - now <= EXPIRES_SOON:
        problem = f"the certificate in use expires at {not_after:%Y-%m-%dT%H:%M:%SZ}"
    return Check("certificate", problem)
