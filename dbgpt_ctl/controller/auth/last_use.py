"""When each token was used last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from dbgpt_ctl.controller.http.callers import ValidToken


class LastUse:
    """A request only adds one to a number, `Identity.uses`, which costs next to nothing. A tick makes a time of it."""

    def __init__(self) -> None:
        self._times: dict[str, datetime] = {}

    def tick(self, identities: Mapping[str, ValidToken], now: datetime) -> None:
        """Those that were used since the last tick were used now. It is called about once a second, and before other
        identities replace these.
        """
        for sha256, identity in identities.items():
            if identity.uses:
                identity.uses = 0
                self._times[sha256] = now

    def of(self, sha256: str) -> datetime | None:
        """To within a tick; None if the token was not used since the controller's start."""
        return self._times.get(sha256)
