"""Where the time comes from. Everything else takes it as an argument, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time. Tests pass one they can turn."""

    def now(self) -> datetime:
        """The time now, aware and in UTC."""
        ...


class SystemClock:
    """This host's clock. A database registry on MySQL does not use it: see `registry.database`."""

    def now(self) -> datetime:
        """The time now, aware and in UTC."""
        return datetime.now(UTC)
