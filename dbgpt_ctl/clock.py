"""The clock. All other code takes a clock or a time as an argument, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of the time. Tests pass a clock that they set."""

    def now(self) -> datetime:
        """The time now, aware and in UTC."""
        ...


class SystemClock:
    """The clock of this host. A registry on a database server uses the server's clock instead (rule 7)."""

    def now(self) -> datetime:
        """The time now, aware and in UTC."""
        return datetime.now(UTC)
