"""`ctl models list --watch` on a terminal: one screen that is drawn anew.

Nothing of the terminal is changed that would have to be put back: no alternate screen, no hidden cursor, echo as it
was. So whatever ends the command, even `kill -9`, leaves a terminal that works, and the last screen on it.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.cli.commands.models.list import inventory, time_of
from dbgpt_ctl.cli.diagnosis.report import list_warnings
from dbgpt_ctl.cli.output.escaping import defused
from dbgpt_ctl.cli.output.instances import span, table_of
from dbgpt_ctl.cli.output.stdout import print_raw, wants_colour
from dbgpt_ctl.cli.output.table import fitted, plain
from dbgpt_ctl.cli.watch.follow import Follower, Outage
from dbgpt_ctl.domain.instance import InstanceState
from dbgpt_ctl.errors import ControllerFailed, ControllerUnreachable, CtlError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dbgpt_ctl.cli.framework.session import Session
    from dbgpt_ctl.cli.output.stdout import Format
    from dbgpt_ctl.cli.parsing.instance_filter import Selection, Shown
    from dbgpt_ctl.client import ControllerClient, Inventory

TICK_SECS = 1.0
"""Ages are drawn anew so often."""
HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
LEAST_PAUSE_SECS = 0.1
"""Between two lists, however many changes come."""


@dataclass(slots=True)
class View:
    """What is on the screen: the last answer, when it came by this process's clock, and what went wrong since."""

    wanted: Selection
    form: Format
    sort: Callable[[Shown], Any] | None
    headers: bool
    answer: Inventory | None = None
    came_at: float = 0.0
    asked_at: float = 0.0
    error: str | None = None

    def screen(self, now: float, columns: int, rows: int, *, colour: bool) -> list[str]:
        """At most `rows` lines, none wider than `columns` but where a table has to be."""
        if self.answer is None:
            return []
        time = time_of(self.answer) + timedelta(seconds=now - self.came_at)
        found = [each for each in self.answer.instances if self.wanted.matches(each)]
        if self.sort is not None:
            found.sort(key=self.sort)
        counts = Counter(each.state for each in found)
        told = ", ".join(f"{counts[state]} {state}" for state in InstanceState if counts[state]) or "none"
        clock = time.astimezone(UTC).strftime("%H:%M:%SZ")
        head = [_cut(f"{clock}  {told}{self.wanted}  at {self.answer.controller}", columns)]
        head += [_cut(line, columns) for line in list_warnings(self.answer, time)]
        if self.error is not None:
            head.append(_cut(f"since {span(now - self.came_at)} no answer: {self.error}", columns))
        table, left_out = self._table(found, time, columns, max(1, rows - len(head) - 1), colour=colour)
        lines = [*head, "", *table, *([f"and {left_out} more"] if left_out else [])]
        return lines[:rows]

    def _table(self, found: list[Any], time: datetime, width: int, room: int, *, colour: bool) -> tuple[list[str], int]:
        """As many rows as fit, the line that tells of the others included."""
        if not found:
            return [], 0
        number = min(len(found), room)
        while True:
            columns, rows = table_of(found[:number], self.form, now=time)
            lines = fitted(columns, rows, width=width, colour=colour, headers=self.headers)
            if _height(lines, width) > room:
                lines = list(plain(columns, rows, headers=self.headers, colour=colour))
            height = _height(lines, width) + (number < len(found))
            if height <= room or number == 1:
                return lines, len(found) - number
            number = max(1, min(number - 1, number - (height - room) // 2))


def redraw(
    session: Session,
    wanted: Selection,
    *,
    form: Format,
    sort: Callable[[Shown], Any] | None,
    every: float,
    headers: bool,
) -> None:
    """Until Ctrl-C. Raises what keeps it from its first list."""
    news: SimpleQueue[str] = SimpleQueue()
    view = View(wanted, form, sort, headers)
    with session.client() as client, _sizes(news):
        _list(client, view)
        threading.Thread(target=_listen, args=(session, wanted, news), daemon=True).start()
        print_raw("\n" * (shutil.get_terminal_size().lines - 1))  # what was on the screen stays, above
        try:
            _loop(client, view, news, every)
        finally:
            print_raw("\n")


def _loop(client: ControllerClient, view: View, news: SimpleQueue[str], every: float) -> None:
    while True:
        now = time.monotonic()
        _draw(view, now)
        until = min(now + TICK_SECS, max(view.asked_at + every, now + LEAST_PAUSE_SECS))
        told = _wait(news, until - now)
        if told == "change" or time.monotonic() >= view.asked_at + every:
            _list(client, view)


def _wait(news: SimpleQueue[str], seconds: float) -> str | None:
    """The last of what came meanwhile: a `change` counts more than a `size`."""
    try:
        told = news.get(timeout=max(0.0, seconds))
    except Empty:
        return None
    while True:
        try:
            other = news.get_nowait()
        except Empty:
            return told
        told = "change" if "change" in (told, other) else other


def _list(client: ControllerClient, view: View) -> None:
    view.asked_at = time.monotonic()
    try:
        view.answer = inventory(client, view.wanted)
    except (ControllerUnreachable, ControllerFailed) as error:
        if view.answer is None:
            raise
        view.error = defused(str(error))
    else:
        view.error, view.came_at = None, time.monotonic()


def _draw(view: View, now: float) -> None:
    """In one write, over what was there: nothing flickers."""
    size = shutil.get_terminal_size()
    lines = view.screen(now, size.columns, size.lines - 1, colour=wants_colour())
    print_raw(HOME + "".join(f"{line}{TO_LINE_END}\n" for line in lines) + TO_SCREEN_END)


def _listen(session: Session, wanted: Selection, news: SimpleQueue[str]) -> None:
    """Says that something changed, as soon as it does. Where that cannot be had, polling is all there is."""
    with session.client() as client:
        outage = Outage(lambda _line: None)
        try:
            for watched in Follower(client, outage, wanted.models.model_name, wanted.host):
                if watched.kind in ("change", "reset"):
                    news.put("change")
        except CtlError:
            return


@contextmanager
def _sizes(news: SimpleQueue[str]) -> Iterator[None]:
    """Hears of a terminal whose size changes. A SimpleQueue may be filled by a handler of signals."""
    before = signal.signal(signal.SIGWINCH, lambda _number, _frame: news.put("size"))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _cut(line: str, columns: int) -> str:
    return line if len(line) <= columns else f"{line[: max(0, columns - 1)]}…"


def _height(lines: list[str], width: int) -> int:
    """What they take where the terminal wraps those that are too wide."""
    from rich.cells import cell_len
    from rich.text import Text

    return sum(max(1, -(-cell_len(Text.from_ansi(line).plain) // width)) for line in lines)
