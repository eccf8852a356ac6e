"""A line on the terminal that says what a command waits for, drawn in place. A pipe gets nothing of it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.output.signals import completes_terminal
from dbgpt_ctl.cli.output.stdout import say
from dbgpt_ctl.cli.output.table import cell_width
from dbgpt_ctl.text.escaping import defused
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLEARED = "\r\x1b[K"
TICK_SECS = 1.0
"""Interval at which the time on the line is drawn again."""


@contextmanager
def status_line(*, wanted: bool) -> Iterator[Callable[[str], None]]:
    """A function that draws a text over the line; an empty text clears it.

    It does nothing without `wanted`, and where stderr is no terminal that can clear a line. The line is clear at the
    end of the block, also where a signal ends the process.
    """
    if not wanted or sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _text: None
        return
    with completes_terminal(sys.stderr.fileno(), CLEARED.encode()):
        yield _draw


class Progress:
    """Shows what a command waits for and for how long. `state` is what it knows; `sleep` draws it once a second."""

    def __init__(
        self,
        draw: Callable[[str], None],
        goal: str,
        timeout: float,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.state = "asking"
        self._draw = draw
        self._goal = goal
        self._timeout = timeout
        self._monotonic = monotonic
        self._sleep = sleep
        self._began = monotonic()
        self._show()

    def sleep(self, seconds: float) -> None:
        """Sleeps, and draws the line meanwhile."""
        until = self._monotonic() + seconds
        while (left := until - self._monotonic()) > 0:
            self._show()
            self._sleep(min(left, TICK_SECS))

    def say(self, line: str) -> None:
        """Prints a message where the line was, and the line below it."""
        self._draw("")
        say(line)
        self._show()

    def _show(self) -> None:
        passed = duration_text(self._monotonic() - self._began)
        self._draw(f"waiting for {self._goal}: {self.state}; {passed} of {duration_text(self._timeout)}")


def _draw(text: str) -> None:
    sys.stderr.write(CLEARED + _cut(defused(text), get_terminal_size().columns - 1))
    sys.stderr.flush()


def _cut(text: str, width: int) -> str:
    """At most `width` cells: a line that the terminal wraps could not be drawn over."""
    if cell_width(text) <= width:
        return text
    while text and cell_width(text) > width - 1:
        text = text[:-1]
    return f"{text}…"
