"""The rows of a database that cannot be read: what health says of them, and what the log said already."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dbgpt_ctl.registry.contract import NO_OBSERVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.registry.contract import RegistryObserver
    from dbgpt_ctl.registry.database.tables.unreadable import UnreadableRow

log = logging.getLogger(__name__)

MAX_KNOWN = 1000
"""Rows of each table that are known one by one, and lines that are logged in all: a table may be full of such rows."""


class DamagedRows:
    """Those that the last reads found. Several threads may use this object.

    `keys` are identities whose rows the next register or heartbeat writes anew. Each read that leaves out rows is a
    failure for the observer, so it gets failures for as long as such rows are there.
    """

    def __init__(self, observer: RegistryObserver = NO_OBSERVER) -> None:
        self._observer = observer
        self.keys: frozenset[InstanceKey] = frozenset()
        self._instances: tuple[int, str] | None = None
        self._events: dict[int, str] = {}
        self._logged: set[tuple[str, str]] = set()

    @property
    def reasons(self) -> Sequence[str]:
        """One line for each table with such rows, for health."""
        events = self._events.copy()
        found = [("ctl_instance", *self._instances)] if self._instances else []
        if events:
            found.append(("ctl_event", len(events), min(events.values())))
        return [
            f"{count} row{'s' if count > 1 else ''} of {table} cannot be read and {'are' if count > 1 else 'is'} left "
            f"out: {first}; `ctl db check` lists them"
            for table, count, first in found
        ]

    def note_instances(self, rows: Sequence[UnreadableRow], *, complete: bool) -> None:
        """`complete`: these are all that the table holds, so no other row is damaged."""
        if not rows and not complete:
            return
        if rows:
            self._observer.failed("damage")
        for row in rows[:MAX_KNOWN]:
            self._log(row)
        keys = frozenset(row.key for row in rows[:MAX_KNOWN] if row.key is not None)
        if complete:
            self._instances = (len(rows), str(rows[0])) if rows else None
            self.keys = keys
        elif len(self.keys) < MAX_KNOWN:
            self.keys |= keys

    def note_events(self, rows: Sequence[UnreadableRow], readable: Iterable[int]) -> None:
        """`readable` are the ids that the same read could read."""
        if rows:
            self._observer.failed("damage")
        if self._events:
            for number in readable:
                self._events.pop(number, None)
        for row in rows:
            if len(self._events) < MAX_KNOWN:
                self._events[row.values["id"]] = str(row)
            self._log(row)

    def forget_events(self, numbers: Iterable[int]) -> None:
        """These events are deleted."""
        if self._events:
            for number in numbers:
                self._events.pop(number, None)

    def _log(self, row: UnreadableRow) -> None:
        logged = row.table, str(row)
        if logged in self._logged or len(self._logged) > MAX_KNOWN:
            return
        if len(self._logged) == MAX_KNOWN:
            log.warning("further rows that cannot be read are not logged: `ctl db check` lists them")
        else:
            log.warning(
                "a row of %s cannot be read and is left out: %s",
                row.table,
                row,
                extra={"event": "database.row_unreadable"},
            )
        self._logged.add(logged)
