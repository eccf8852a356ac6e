"""Follows the changes of a cluster over outages and failover: no change twice, none lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dbgpt_ctl.client.results import Watched
    from dbgpt_ctl.client.sync import ControllerClient

PAUSE_SECS = 1.0
"""Between two attempts to reach a controller."""


@dataclass(slots=True)
class OutageNotice:
    """Prints one line when no controller answers, and one when a controller answers again."""

    say: Callable[[str], None]
    monotonic: Callable[[], float] = time.monotonic
    since: float | None = None

    def begin(self, error: Exception) -> None:
        """Further calls during the outage do nothing."""
        if self.since is None:
            self.since = self.monotonic()
            self.say(f"{error}; waiting until one answers")

    def end(self) -> None:
        """Does nothing outside an outage."""
        if self.since is not None:
            self.say(f"the controller answers again, after {self.monotonic() - self.since:.0f}s")
        self.since = None


@dataclass(slots=True)
class Position:
    """A position in the stream of changes: `cursor` is STREAM.NUMBER, None for changes from now on."""

    cursor: str | None = None

    @property
    def stream(self) -> str | None:
        """The name of the stream; numbers of different streams do not compare."""
        return None if self.cursor is None else self.cursor.rpartition(".")[0]

    @property
    def number(self) -> int:
        """The number of the last change that was read."""
        digits = (self.cursor or "").rpartition(".")[2]
        return int(digits) if digits.isdecimal() else 0

    def is_behind(self, cursor: str | None) -> bool:
        """Whether a change with that cursor comes after this position."""
        other = Position(cursor)
        return cursor is None or other.stream != self.stream or other.number > self.number


@dataclass(slots=True)
class Follower:
    """Watches a controller and connects again after each end. `position` moves with each change, or by its owner."""

    client: ControllerClient
    outage: OutageNotice
    model_name: str | None = None
    host: str | None = None
    position: Position = field(default_factory=Position)
    sleep: Callable[[float], None] = time.sleep
    awaits_first: bool = True
    """Whether it waits for the first connection too; if not, it raises the error."""

    def __iter__(self) -> Iterator[Watched]:
        """Yields `ready` at each new connection, each `change` once, and `reset` where changes are lost.

        Raises NotSupported and other refusals. Without `awaits_first` it also raises the error of the first connection.
        """
        while True:
            try:
                yield from self._connection()
            except (ControllerUnreachable, ControllerFailed) as error:
                if not self.awaits_first and self.position.cursor is None:
                    raise
                self.outage.begin(error)
                self.sleep(PAUSE_SECS)

    def _connection(self) -> Iterator[Watched]:
        ready, last = None, None
        for watched in self.client.watch(model_name=self.model_name, host=self.host, cursor=self.position.cursor):
            self.outage.end()
            last = watched.kind
            match watched.kind:
                case "ready":
                    ready = watched.cursor
                    self.position.cursor = self.position.cursor or ready
                case "reset":
                    self.position.cursor = watched.cursor or ready or self.position.cursor
                case "change":
                    if not self.position.is_behind(watched.cursor):
                        continue
                    self.position.cursor = watched.cursor or self.position.cursor
                case _:
                    continue
            yield watched
        if last == "leaving":
            self.sleep(PAUSE_SECS)
        elif last != "dropped":
            raise ControllerUnreachable("the controller ended the watch")
