"""An observer that keeps what registries tell it. Several registries, in any threads, may share one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.registry.contract import RegistryObserver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.domain.events import Change


class RecordingObserver(RegistryObserver):
    """What came, in order. To append to a list is atomic."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.batches: list[tuple[int, float]] = []
        self.failures: list[str] = []

    def changes_written(self, changes: Sequence[Change]) -> None:
        assert changes, "nothing is no news"
        self.changes.extend(changes)

    def committed(self, calls: int, seconds: float) -> None:
        self.batches.append((calls, seconds))

    def failed(self, kind: str) -> None:
        self.failures.append(kind)
