"""How many new instances a database has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.instance import is_forgotten
from dbgpt_ctl.registry.rows import count_rows, delete_rows, locked_rows, tombstones

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from sqlalchemy import Connection

    from dbgpt_ctl.instance import InstanceKey

__all__ = ["Room"]


class Room:
    """Counting is dear, so a count is believed for a while: one controller keeps its limit exactly, several that share
    a database may overshoot by what they all store in that time.
    """

    KEPT_SECS = 10.0
    SWEPT_AT_ONCE = 500

    def __init__(self, most: int) -> None:
        self.most = most
        self._left = 0
        self._counted_at: datetime | None = None
        self._open = False

    def left(self, connection: Connection, now: datetime) -> int:
        """Rows that may still be inserted."""
        if (
            self._left <= 0
            or self._counted_at is None
            or not 0 <= (now - self._counted_at).total_seconds() <= self.KEPT_SECS
        ):
            self._left = self.most - count_rows(connection)
            self._counted_at = now
        return self._left

    def take(self, rows: int) -> None:
        """Notes that so many were inserted (negative: deleted)."""
        self._left -= rows

    def begin(self) -> None:
        """A transaction begins. Counts anew if the one before was not heard to have been committed."""
        if self._open:
            self._counted_at = None
        self._open = True

    def settle(self) -> None:
        """The transaction is committed."""
        self._open = False

    def sweep(self, connection: Connection, now: datetime, timeout: timedelta, *, keep: Collection[InstanceKey]) -> int:
        """Deletes up to SWEPT_AT_ONCE tombstones that have done their duty (rule 4), but for those that the transaction
        holds already; tells what is left then.
        """
        done = [
            each.key for each in tombstones(connection) if is_forgotten(each, now, timeout) and each.key not in keep
        ]
        # Another controller may have revived some since: only what is locked is judged.
        locked = locked_rows(connection, done[: self.SWEPT_AT_ONCE]) if done else []
        gone = [each.key for each in locked if is_forgotten(each, now, timeout)]
        if gone:
            delete_rows(connection, gone)
            self.take(-len(gone))
        return self._left
