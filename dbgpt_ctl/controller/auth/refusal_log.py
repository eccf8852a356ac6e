"""The log of refused requests: the first of each caller at once, the others summed up once a minute."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.controller.logs.formats import instance_fields

if TYPE_CHECKING:
    from datetime import datetime

    from dbgpt_ctl.auth.reasons import Reason
    from dbgpt_ctl.controller.auth.refused_request import RefusedRequest

log = logging.getLogger("dbgpt_ctl.auth")

EVERY = timedelta(minutes=1)
MAX_LINES = 20
"""First requests that have a line of their own within EVERY; beyond, they are summed up with the others."""
MAX_LINES_OF_SOURCE = 4
"""Of these, the lines for one source: it could send each request with another label."""
MAX_CALLERS = 1000
"""Callers that are remembered; after so many, the log begins anew, and a caller may have a second line."""
MAX_NAMED = 3
"""Sources that a sum names."""


class RefusalLog:
    """Logs at most MAX_LINES lines and one sum in EVERY, whatever strangers send."""

    def __init__(self) -> None:
        self._callers: set[tuple[Reason, str | None, str | None]] = set()
        self._lines: Counter[str | None] = Counter()
        self._reasons: Counter[Reason] = Counter()
        self._sources: Counter[str | None] = Counter()
        self._served = False
        self._next_sum: datetime | None = None

    def note(self, refused: RefusedRequest, now: datetime, *, served: bool) -> None:
        """Logs the request, or counts it for the next sum."""
        if served is not self._served:  # each caller that was served has a line of its own when it is refused
            self._end_minute()
            self._callers.clear()
            self._served = served
        if self._next_sum is None:
            self._next_sum = now + EVERY
        source = refused.source
        caller = (refused.reason, source, refused.label)
        if (
            caller not in self._callers
            and self._lines[source] < MAX_LINES_OF_SOURCE
            and self._lines.total() < MAX_LINES
        ):
            if len(self._callers) >= MAX_CALLERS:
                self._callers.clear()
            self._callers.add(caller)
            self._lines[source] += 1
            log.warning("%s", first_line(refused, served=served), extra=_fields(refused, served=served))
            return
        self._reasons[refused.reason] += 1
        if source in self._sources or len(self._sources) < MAX_CALLERS:
            self._sources[source] += 1

    def tick(self, now: datetime) -> None:
        """Logs the sum when it is time. It is called about once a second."""
        if self._next_sum is not None and not self._next_sum - EVERY <= now < self._next_sum:  # the clock may go back
            self._end_minute()

    def _end_minute(self) -> None:
        if self._reasons:
            log.warning("%s", self._sum(), extra={"event": _event(self._served), "count": self._reasons.total()})
        self._next_sum = None
        for counter in (self._lines, self._reasons, self._sources):
            counter.clear()

    def _sum(self) -> str:
        """`1,234 more requests were refused in the last minute: unknown 1,200, none 34; most from 10.0.0.9 (1,190)`."""
        total = self._reasons.total()
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in self._reasons.most_common())
        named = ", ".join(f"{source or '-'} ({number:,})" for source, number in self._sources.most_common(MAX_NAMED))
        noun = "request was" if total == 1 else "requests were"
        what = "served that enforce mode refuses" if self._served else "refused"
        return (
            f"{total:,} more {noun} {what} in the last minute: {reasons}; most from {named}; ctl auth status lists all"
        )


def _event(served: bool) -> str:  # noqa: FBT001 - it is the whole difference
    return "auth.would_refuse" if served else "auth.refused"


def _fields(refused: RefusedRequest, *, served: bool) -> dict[str, Any]:
    """The fields of a JSON line; `actor_name` is a token that is known, valid or not."""
    instance = refused.instance
    return {
        "event": _event(served),
        "reason": refused.reason.value,
        "actor_name": refused.token,
        "address": refused.source,
        "user_agent": refused.shown_user_agent,
        **instance_fields(instance),
    }


def first_line(refused: RefusedRequest, *, served: bool) -> str:
    """The line of one request. The instance is printable, and everything else is in ASCII."""
    agent, label = refused.shown_user_agent, refused.shown_label
    by = f" '{label}'" if label else ""
    token = f" ({refused.token})" if refused.token else ""
    instance = f" of {refused.instance}" if refused.instance else ""
    what = "served, which enforce mode refuses" if served else "refused"
    return (
        f"{refused.shown_action}{instance} from {refused.source or '-'}{by} is {what}: it has "
        f"{refused.reason.phrase}{token}; user agent '{agent}'"
    )
