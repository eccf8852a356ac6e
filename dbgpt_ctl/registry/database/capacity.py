"""How many new instances a database has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.domain.lifecycle import is_forgotten
from dbgpt_ctl.registry.database.tables.instances import count_rows, delete_rows, locked_rows, tombstones

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.domain.instance import InstanceKey, ModelInstance

__all__ = ["Room"]


class Room:
    """Counting and looking for tombstones is dear, so what was found is believed for a while: one controller keeps its
    limit exactly, several that share a database may overshoot by what they all store in that time.
    """

    KEPT_SECS = 10.0
    SWEPT_AT_ONCE = 500

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = 0
        self._counted_at: datetime | None = None
        self._tombstones: list[ModelInstance] = []
        self._searched_at: datetime | None = None
        self._open = False

    def left(self, connection: Connection, now: datetime) -> int:
        """Rows that may still be inserted."""
        if not self._is_recent(self._counted_at, now):
            self._left = self.most - count_rows(connection)
            self._counted_at = now
        return self._left

    def take(self, rows: int) -> None:
        """Notes that so many were inserted (negative: deleted)."""
        self._left -= rows

    def note_tombstone(self) -> None:
        """There is one that the last search did not find."""
        self._searched_at = None

    def begin(self) -> None:
        """A transaction begins. Believes nothing if the one before was not heard to have been committed."""
        if self._open:
            self._counted_at = self._searched_at = None
        self._open = True

    def settle(self) -> None:
        """The transaction is committed."""
        self._open = False

    def sweep(self, connection: Connection, now: datetime, timeout: timedelta, *, keep: Collection[InstanceKey]) -> int:
        """Deletes up to SWEPT_AT_ONCE tombstones that have done their duty (rule 4), but for those that the transaction
        holds already; tells what is left then.
        """
        if not self._is_recent(self._searched_at, now):
            self._tombstones = tombstones(connection)
            self._searched_at = now
        done = [each.key for each in self._tombstones if is_forgotten(each, now, timeout) and each.key not in keep]
        # Another controller may have revived some since: only what is locked is judged.
        locked = locked_rows(connection, done[: self.SWEPT_AT_ONCE]) if done else []
        gone = [each.key for each in locked if is_forgotten(each, now, timeout)]
        if gone:
            delete_rows(connection, gone)
            self.take(-len(gone))
        if done:
            self._searched_at = None
        return self._left

    def _is_recent(self, then: datetime | None, now: datetime) -> bool:
        return then is not None and 0 <= (now - then).total_seconds() <= self.KEPT_SECS
