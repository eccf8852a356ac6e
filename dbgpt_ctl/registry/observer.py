"""What a registry tells of its work, for metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.domain.events import Change


class RegistryObserver:
    """Ignores everything; a subclass counts. Any thread may call the methods. They return at once and raise nothing."""

    def changes_written(self, changes: Sequence[Change]) -> None:
        """The changes are stored, in a database after the commit. Of all registries that share a database, the one that
        wrote a change tells it, once. Nobody tells a change whose commit took place without a confirmation.
        """

    def committed(self, calls: int, seconds: float) -> None:
        """A batch of so many calls that change facts is done, after so many seconds with its commit."""

    def failed(self, kind: str) -> None:
        """The storage failed. `kind` is conflict (the transaction is tried again), connection (there is none, it was
        lost, or there was no answer in time), damage (a table is not as this release made it, or a read left out rows
        that cannot be read), or unavailable (the other controller of a registry that forwards).
        """


NO_OBSERVER = RegistryObserver()
"""Ignores everything. The default of all registries."""
