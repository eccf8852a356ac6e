"""`ctl models list --watch` on a terminal: a table that is drawn again and again in place.

It changes nothing of the terminal that would have to be restored: no alternate screen, no hidden cursor, echo as it
was. Whatever ends the command, even `kill -9`, leaves a terminal that works, with the last table on it. A signal that
can be handled also leaves the cursor on a new line below the table.
"""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from dbgpt_ctl.cli.diagnosis.caveats import caveat_lines
from dbgpt_ctl.cli.output.instances import instance_table
from dbgpt_ctl.cli.output.signals import completes_terminal
from dbgpt_ctl.cli.output.stdout import print_raw, wants_colour
from dbgpt_ctl.cli.output.table import GAP, cell_width, fitted, plain
from dbgpt_ctl.cli.watch.follow import Follower, OutageNotice
from dbgpt_ctl.client.results import counted_text
from dbgpt_ctl.client.status import counts_of
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, CtlError
from dbgpt_ctl.text.escaping import defused
from dbgpt_ctl.text.times import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.client.results import Inventory, KnownInstance
    from dbgpt_ctl.client.sync import ControllerClient
    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.domain.filters import InstanceFilter

    Signal = Literal["change", "resize"]
    """What wakes the loop between two refreshes."""

TICK_SECS = 1.0
"""Interval at which ages are drawn again."""
HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
LEAST_PAUSE_SECS = 0.1
"""Least time between two lists, however many changes there are."""


def watch_on_screen(
    session: Session,
    wanted: InstanceFilter,
    *,
    wide: bool,
    sort: Callable[[KnownInstance], Any] | None,
    interval: float,
    headers: bool,
) -> None:
    """Runs until Ctrl-C. Raises the error of the first list. `interval`: seconds between two lists without changes."""
    signals: SimpleQueue[Signal] = SimpleQueue()
    view = View(session.clock, wanted, wide, sort, headers)
    with session.client() as client, _resize_signals(signals):
        _refresh(client, view)
        threading.Thread(target=_signal_changes, args=(session, wanted, signals), daemon=True).start()
        print_raw("\n" * (shutil.get_terminal_size().lines - 1))  # keeps the earlier content of the screen, above
        with completes_terminal(sys.stdout.fileno(), b"\n"):
            _loop(client, view, signals, interval)


def _loop(client: ControllerClient, view: View, signals: SimpleQueue[Signal], interval: float) -> None:
    while True:
        now = time.monotonic()
        _draw(view, now)
        until = min(now + TICK_SECS, max(view.requested_at + interval, now + LEAST_PAUSE_SECS))
        if _await_change(signals, until - now) or time.monotonic() >= view.requested_at + interval:
            _refresh(client, view)


def _await_change(signals: SimpleQueue[Signal], seconds: float) -> bool:
    """Waits for signals, at most `seconds`. Whether there was a change among those that came."""
    received: set[Signal] = set()
    with suppress(Empty):
        received.add(signals.get(timeout=max(0.0, seconds)))
        while True:
            received.add(signals.get_nowait())
    return "change" in received


def _refresh(client: ControllerClient, view: View) -> None:
    view.requested_at = time.monotonic()
    try:
        view.inventory = client.inventory(view.wanted)
    except (ControllerUnreachable, ControllerFailed) as error:
        if view.inventory is None:
            raise
        view.error = defused(str(error))
    else:
        view.error, view.received_at = None, time.monotonic()


def _draw(view: View, now: float) -> None:
    """Writes over the last screen, in one write so that nothing flickers."""
    size = shutil.get_terminal_size()
    lines = view.lines(now, size.columns, size.lines - 1, colour=wants_colour())
    print_raw(HOME + "".join(f"{line}{TO_LINE_END}\n" for line in lines) + TO_SCREEN_END)


def _signal_changes(session: Session, wanted: InstanceFilter, signals: SimpleQueue[Signal]) -> None:
    """Signals each change as soon as it happens. Where the controller has no events, only the interval is left."""
    with session.client() as client:
        outage = OutageNotice(lambda _line: None)
        try:
            for watched in Follower(client, outage, wanted.models.model_name, wanted.host):
                if watched.kind in ("change", "reset"):
                    signals.put("change")
        except CtlError:
            return


@contextmanager
def _resize_signals(signals: SimpleQueue[Signal]) -> Iterator[None]:
    """Signals each new size of the terminal. A signal handler may fill a SimpleQueue."""
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: signals.put("resize"))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@dataclass(slots=True)
class View:
    """The content of the screen. `requested_at` and `received_at` are by this process's monotonic clock."""

    clock: Clock
    wanted: InstanceFilter
    wide: bool
    sort: Callable[[KnownInstance], Any] | None
    headers: bool
    inventory: Inventory | None = None
    """The last answer."""
    received_at: float = 0.0
    requested_at: float = 0.0
    error: str | None = None
    """The error of the last request, if it failed."""

    def lines(self, now: float, columns: int, rows: int, *, colour: bool) -> list[str]:
        """At most `rows` lines. Only a table that does not fit is wider than `columns`."""
        if self.inventory is None:
            return []
        time = (self.inventory.time or self.clock.now()) + timedelta(seconds=now - self.received_at)
        matching = [instance for instance in self.inventory.instances if self.wanted.matches(instance)]
        if self.sort is not None:
            matching.sort(key=self.sort)
        head = [_cut(line, columns) for line in self._head(self.inventory, matching, time, now, columns)]
        table, omitted = self._table(matching, time, columns, max(1, rows - len(head) - 1), colour=colour)
        lines = [*head, "", *table, *([f"and {omitted} more"] if omitted else [])]
        return lines[:rows]

    def _head(
        self, inventory: Inventory, matching: list[KnownInstance], time: datetime, now: float, columns: int
    ) -> Iterator[str]:
        counts = counted_text(counts_of(matching)) or "none"
        only = f"only instances{self.wanted}" if str(self.wanted) else ""
        yield from packed([f"{time.astimezone(UTC):%H:%M:%SZ}", counts, f"at {inventory.controller}", only], columns)
        yield from caveat_lines(inventory, time)
        if self.error is not None:
            yield f"no answer for {duration_text(now - self.received_at)}: {self.error}"

    def _table(
        self, instances: list[KnownInstance], time: datetime, width: int, height: int, *, colour: bool
    ) -> tuple[list[str], int]:
        """As many rows as fit, with the line about omitted ones; and the number of omitted instances."""
        if not instances:
            return [], 0
        number = min(len(instances), height)
        while True:
            columns, rows = instance_table(instances[:number], wide=self.wide, now=time)
            lines = fitted(columns, rows, width=width, colour=colour, headers=self.headers)
            if _height(lines, width) > height:
                lines = list(plain(columns, rows, headers=self.headers, colour=colour))
            needed = _height(lines, width) + (number < len(instances))
            if needed <= height or number == 1:
                return lines, len(instances) - number
            number = max(1, min(number - 1, number - (needed - height) // 2))


def packed(parts: Iterable[str], columns: int) -> list[str]:
    """Puts the parts on as few lines as hold them whole: a URL that is cut cannot be copied."""
    lines: list[str] = []
    for part in filter(None, parts):
        joined = f"{lines[-1]}{GAP}{part}" if lines else part
        if lines and cell_width(joined) <= columns:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: max(0, columns - 1)]}…"


def _height(lines: list[str], width: int) -> int:
    """The number of rows on the terminal, which wraps lines that are too wide."""
    from rich.cells import cell_len
    from rich.text import Text

    return sum(max(1, -(-cell_len(Text.from_ansi(line).plain) // width)) for line in lines)
