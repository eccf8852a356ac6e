"""Follows the changes of a cluster over outages and failover, from cursor to cursor: none twice, none lost."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dbgpt_ctl.client import ControllerClient
    from dbgpt_ctl.client.models import Watched

PAUSE_SECS = 1.0
"""Between two attempts to reach a controller."""


@dataclass(slots=True)
class Outage:
    """Tells a person once that no controller answers, and once that one does again."""

    say: Callable[[str], None]
    monotonic: Callable[[], float] = time.monotonic
    since: float | None = None

    def begins(self, error: Exception) -> None:
        """Repeatable while it lasts."""
        if self.since is None:
            self.since = self.monotonic()
            self.say(f"{error}; going on when one answers")

    def ends(self) -> None:
        """Repeatable."""
        if self.since is not None:
            self.say(f"the controller answers again, after {self.monotonic() - self.since:.0f}s")
        self.since = None


@dataclass(slots=True)
class Position:
    """Where in the changes a reader is: `cursor` is STREAM.NUMBER, None for `from now on`."""

    cursor: str | None = None

    @property
    def stream(self) -> str | None:
        """The name of the numbering."""
        return None if self.cursor is None else self.cursor.rpartition(".")[0]

    @property
    def number(self) -> int:
        """Of the last change that was read."""
        digits = (self.cursor or "").rpartition(".")[2]
        return int(digits) if digits.isdecimal() else 0

    def is_behind(self, cursor: str | None) -> bool:
        """Whether what comes with that cursor is new to the reader."""
        other = Position(cursor)
        return cursor is None or other.stream != self.stream or other.number > self.number


@dataclass(slots=True)
class Follower:
    """Watches again and again. `position` is the reader's: what is yielded moves it, and so may the reader."""

    client: ControllerClient
    outage: Outage
    model_name: str | None = None
    host: str | None = None
    position: Position = field(default_factory=Position)
    sleep: Callable[[float], None] = time.sleep
    patient: bool = True
    """Whether it waits for the first connection too."""

    def __iter__(self) -> Iterator[Watched]:
        """`ready` at each new connection, each `change` once, and `reset` where some cannot be had any more.

        Raises NotSupported and other refusals, and what keeps an impatient one from its first connection; goes on over
        all else.
        """
        while True:
            try:
                yield from self._connection()
            except (ControllerUnreachable, ControllerFailed) as error:
                if not self.patient and self.position.cursor is None:
                    raise
                self.outage.begins(error)
                self.sleep(PAUSE_SECS)

    def _connection(self) -> Iterator[Watched]:
        ready, last = None, None
        for watched in self.client.watch(model_name=self.model_name, host=self.host, cursor=self.position.cursor):
            self.outage.ends()
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
