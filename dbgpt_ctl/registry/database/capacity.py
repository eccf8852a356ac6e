"""How many new instances may still be stored in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.domain.lifecycle import is_forgotten
from dbgpt_ctl.registry.database.tables.instances import count_rows, delete_rows, found_rows, locked_rows
from dbgpt_ctl.registry.database.tables.schema import INSTANCES

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance


class Capacity:
    """The limit `max_instances`, tombstones included, and a count that is trusted for a while.

    To count rows and to search for tombstones takes scans. So one controller keeps the limit exactly, and several that
    share a database may exceed it by the number of instances that they all store in KEPT_SECS.
    """

    KEPT_SECS = 10.0
    RECLAIMED_AT_ONCE = 500

    def __init__(self, max_instances: int) -> None:
        self.max_instances = max_instances
        self._remaining = 0
        self._counted_at: datetime | None = None
        self._tombstones: list[ModelInstance] = []
        self._searched_at: datetime | None = None

    def remaining(self, connection: Connection, now: datetime) -> int:
        """Rows that may still be inserted."""
        if not self._is_recent(self._counted_at, now):
            self._remaining = self.max_instances - count_rows(connection)
            self._counted_at = now
        return self._remaining

    def note_inserted(self, rows: int) -> None:
        """Notes how many rows were inserted (negative: deleted)."""
        self._remaining -= rows

    def note_tombstone(self) -> None:
        """Notes that there is a tombstone that the last search did not find."""
        self._searched_at = None

    def reclaim(
        self, connection: Connection, now: datetime, timeout: timedelta, *, keep: Collection[InstanceKey]
    ) -> None:
        """Deletes up to RECLAIMED_AT_ONCE tombstones that are not needed any more (rule 4), except those in `keep`,
        which the transaction holds already.
        """
        if not self._is_recent(self._searched_at, now):
            self._tombstones = found_rows(connection, INSTANCES.c.removed)
            self._searched_at = now
        forgotten = [
            tombstone.key
            for tombstone in self._tombstones
            if is_forgotten(tombstone, now, timeout) and tombstone.key not in keep
        ]
        # Another controller may have revived some since: only locked rows are evaluated.
        locked = locked_rows(connection, forgotten[: self.RECLAIMED_AT_ONCE]) if forgotten else []
        gone = [instance.key for instance in locked if is_forgotten(instance, now, timeout)]
        if gone:
            delete_rows(connection, gone)
            self.note_inserted(-len(gone))
        if forgotten:
            self._searched_at = None

    def _is_recent(self, then: datetime | None, now: datetime) -> bool:
        return then is not None and 0 <= (now - then).total_seconds() <= self.KEPT_SECS
