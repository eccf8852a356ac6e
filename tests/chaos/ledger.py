"""What was acknowledged, and what a reader who never saw the controllers finds of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.wire import Reply
    from tests.support.database_server import DatabaseServer


class Fate(StrEnum):
    """What the last call for an instance made of it."""

    ABSENT = "absent"
    REGISTERED = "registered"
    DEREGISTERED = "deregistered"
    REMOVED = "removed"


@dataclass
class Ledger:
    """Written by many threads, each with instances of its own; single operations of dict and list are atomic."""

    fates: dict[str, frozenset[Fate]] = field(default_factory=dict)
    """By model name, for all instances that nobody touches any more: the last that was acknowledged or, when calls
    after it went unanswered, those too."""
    pauses: list[float] = field(default_factory=list)
    """Seconds from the first try of a call to its acknowledgement, one for each acknowledged call."""
    failures: list[Reply] = field(default_factory=list)
    """Answers of tries that were not acknowledged."""

    @property
    def acknowledged(self) -> int:
        return len(self.pauses)

    @property
    def longest_pause(self) -> float:
        return max(self.pauses, default=0.0)

    def lost(self, server: DatabaseServer, database: str) -> list[str]:
        """Each instance that is not there what was acknowledged before this was called, with what it is."""
        fates = self.fates.copy()
        stored = stored_in(server, database)
        return [
            f"{name}: {stored.get(name, Fate.ABSENT)}, not {' or '.join(sorted(allowed))}"
            for name, allowed in fates.items()
            if stored.get(name, Fate.ABSENT) not in allowed | _AS_GOOD[Fate.REMOVED in allowed]
        ]


_AS_GOOD = {True: frozenset({Fate.ABSENT}), False: frozenset()}
"""A tombstone does not stay for ever."""


def stored_in(server: DatabaseServer, database: str) -> dict[str, Fate]:
    """Straight from the table."""
    rows = server.read_latest("SELECT model_name, deregistered_at IS NOT NULL, removed FROM ctl_instance", database)
    return {str(name): _fate(bool(gone), bool(removed)) for name, gone, removed in rows}


def _fate(gone: bool, removed: bool) -> Fate:
    if removed:
        return Fate.REMOVED
    return Fate.DEREGISTERED if gone else Fate.REGISTERED
