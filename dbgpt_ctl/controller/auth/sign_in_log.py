"""The log of sign-ins at the console: the first of each token and address, and a sum of the others once a minute."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.auth.refusal_log import EVERY, MAX_LINES

if TYPE_CHECKING:
    from datetime import datetime

log = logging.getLogger(__name__)


class SignInLog:
    """Logs at most MAX_LINES lines and one sum in EVERY, however often the holder of a token signs in."""

    def __init__(self) -> None:
        self._logged: set[tuple[str, str | None]] = set()
        self._more = 0
        self._next_sum: datetime | None = None

    def note(self, token: str, source: str | None, now: datetime) -> None:
        """Logs the sign-in with the token of this name, or counts it for the next sum."""
        if self._next_sum is None:
            self._next_sum = now + EVERY
        if (token, source) in self._logged or len(self._logged) >= MAX_LINES:
            self._more += 1
            return
        self._logged.add((token, source))
        log.info(
            "token %s has signed in at the console from %s",
            token,
            source or "-",
            extra={"event": "session.signed_in", "actor_name": token, "address": source},
        )

    def tick(self, now: datetime) -> None:
        """Logs the sum when it is time. It is called about once a second."""
        if self._next_sum is None or self._next_sum - EVERY <= now < self._next_sum:  # the clock may go back
            return
        if self._more:
            noun = "sign-in" if self._more == 1 else "sign-ins"
            log.info(
                "%s more %s at the console in the last minute",
                f"{self._more:,}",
                noun,
                extra={"event": "session.signed_in", "count": self._more},
            )
        self._logged.clear()
        self._more, self._next_sum = 0, None
