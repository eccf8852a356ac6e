"""The audit log: a JSON line for each change by an operator and for each change of security.

    {"time":"2026-01-02T03:04:05.678Z","action":"drain","outcome":"done","actor":"operator","actor_name":"anna",...}

`action` is the verb of a request, or what the controller did itself: start, stop, read_tokens, change_mode,
replace_certificate. `outcome` is done, refused or failed. docs/operating.md describes the other fields.

Which requests have a line, refused ones too, is decided in `audited_routes`.

The log is a file of its own, which is never rotated or emptied here, because a program that collects or keeps it must
see each line. No line holds a secret: tokens stand there with their names.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dbgpt_ctl
from dbgpt_ctl.background import background_task
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.logs.formats import json_line, utc_time
from dbgpt_ctl.controller.logs.log_file import AppendFile
from dbgpt_ctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from datetime import datetime

    from dbgpt_ctl.auth.tokens import Token
    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.controller.auth.tokens_in_force import InForce
    from dbgpt_ctl.settings.schema import ControllerSettings

log = logging.getLogger(__name__)

TICK_SECS = 1.0
MAX_STRANGERS_LINES = 20
"""Lines within EVERY_SECS that all callers without a token can cause by what is not done, and as many that each token
can. More are counted. So strangers cannot hide what somebody tries with a token.
"""
EVERY_SECS = 60.0
MAX_NAMED = 100
"""Tokens, or instances of one prune, that a line names; more are counted."""


class AuditLog:
    """Appends lines to the file. A line that cannot be written fails no request: `problem` says so, and the log does
    once. When the file can be written again, a line says how many are missing.
    """

    def __init__(
        self, path: Path, *, clock: Clock | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Opens the file. Raises OSError."""
        self._file = AppendFile(path)
        self._now = (clock or SystemClock()).now
        self._monotonic = monotonic
        self.problem: str | None = None
        self._missing = 0
        self._missing_since: datetime | None = None
        self._strangers_lines: Counter[str | None] = Counter()
        self._left_out = 0
        self._minute_ends: float | None = None
        """When the count begins anew; None before the first line of a stranger."""

    def write(self, action: str, outcome: str = "done", fields: Mapping[str, Any] | None = None) -> None:
        """Appends a line. Raises nothing."""
        self._append({"time": utc_time(self._now()), "action": action, "outcome": outcome, **(fields or {})})

    def write_of_stranger(
        self, action: str, outcome: str, fields: Mapping[str, Any], *, token: str | None = None
    ) -> None:
        """The same for what anybody can cause: a line, or one more in the count of those that have none. `token` is the
        name of a known token.
        """
        if self._minute_ends is None:
            self._minute_ends = self._monotonic() + EVERY_SECS
        if self._strangers_lines[token] < MAX_STRANGERS_LINES:
            self._strangers_lines[token] += 1
            self.write(action, outcome, fields)
        else:
            self._left_out += 1

    def tokens_read(self, before: InForce, after: InForce) -> None:
        """The tokens file was read again. Nothing is written if its tokens and the mode are the same as before."""
        if before.mode is not after.mode:
            self.write("change_mode", fields={"before": {"mode": before.mode}, "after": {"mode": after.mode}})
        old, new = _tokens(before), _tokens(after)
        names = {
            "added": [name for name in new if name not in old],
            "removed": [name for name in old if name not in new],
            "changed": [name for name, token in new.items() if name in old and old[name] != token],
        }
        if any(names.values()):
            self.write("read_tokens", fields={what: named(found) for what, found in names.items() if found})

    def certificate_replaced(self, not_after: datetime) -> None:
        """The TLS listener has another certificate."""
        self.write("replace_certificate", fields={"after": {"not_after": utc_time(not_after)}})

    def tick(self) -> None:
        """Writes the count of what was left out when it is time, and tries a file that could not be written. It is
        called about once a second.
        """
        if self._minute_ends is not None and self._monotonic() >= self._minute_ends:
            self._end_minute()
        if self._missing:
            self._append(None)

    @asynccontextmanager
    async def running(self, in_force: Callable[[], InForce]) -> AsyncIterator[None]:
        """Writes the start and the stop of the controller, and ticks in between."""
        self.write("start", fields={"version": dbgpt_ctl.__version__, "auth": str(in_force())})
        try:
            async with background_task(self._keep_ticking(), "audit log"):
                yield
        finally:
            self._end_minute()
            self.write("stop")
            self._file.close()

    async def _keep_ticking(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECS)
            self.tick()

    def _end_minute(self) -> None:
        left_out, self._left_out, self._minute_ends = self._left_out, 0, None
        self._strangers_lines.clear()
        if left_out:
            self.write("summary", "refused", {"count": left_out})

    def _append(self, fields: Mapping[str, Any] | None) -> None:
        """Writes the line, after one about those that are missing; None: only that one."""
        try:
            if self._missing:
                self._file.append(_encoded(self._about_missing()))
                self._works_again()
            if fields is not None:
                self._file.append(_encoded(fields))
        except OSError as error:
            self._missing += fields is not None
            self._fails(error)

    def _about_missing(self) -> dict[str, Any]:
        since = self._missing_since or self._now()
        return {
            "time": utc_time(self._now()),
            "action": "lines_missing",
            "outcome": "failed",
            "count": self._missing,
            "since": utc_time(since),
        }

    def _works_again(self) -> None:
        log.warning(
            "the audit log can be written again; %d lines are missing in it",
            self._missing,
            extra={"event": "audit.writable"},
        )
        self._missing, self._missing_since, self.problem = 0, None, None

    def _fails(self, error: OSError) -> None:
        if self._missing_since is None:
            self._missing_since = self._now()
        if self.problem is None:
            since, reason = self._missing_since.isoformat(timespec="seconds"), error.strerror or error
            self.problem = f"audit log {self._file.path} cannot be written since {since}, and lines are lost: {reason}"
            log.error("%s", self.problem, extra={"event": "audit.unwritable"})


def create_audit_log(settings: ControllerSettings) -> AuditLog | None:
    """The audit log that the settings name. Raises UsageError if it cannot be written."""
    if settings.audit_log_file is None:
        return None
    try:
        return AuditLog(Path(settings.audit_log_file).expanduser())
    except OSError as error:
        raise UsageError(f"audit_log_file {settings.audit_log_file} cannot be written: {error.strerror}") from None


def named(found: Collection[Any]) -> dict[str, Any]:
    """How many there are, and the names of the first of them: there may be very many instances in a prune."""
    return {"count": len(found), "names": [str(each) for each in islice(found, MAX_NAMED)]}


def _tokens(in_force: InForce) -> Mapping[str, Token]:
    return {} if in_force.file is None else in_force.file.tokens


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return f"{json_line(fields)}\n".encode()
