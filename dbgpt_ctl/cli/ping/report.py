"""The results of pings as a table, as objects, and as one sentence."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from dbgpt_ctl.cli.output.instances import KEY_COLUMNS, STATE_COLUMN, identity_object, key_cells
from dbgpt_ctl.cli.output.stdout import is_terminal, print_lines, print_table
from dbgpt_ctl.cli.output.table import GAP, Column, cell_width
from dbgpt_ctl.client.results import state_text
from dbgpt_ctl.domain.ping_results import PingResult
from dbgpt_ctl.domain.references import first_references

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbgpt_ctl.cli.documents.instances import PrintedPing
    from dbgpt_ctl.client.results import KnownInstance
    from dbgpt_ctl.domain.instance import InstanceKey
    from dbgpt_ctl.domain.ping_results import Ping


RESULT_COLOURS: dict[str, str] = {
    **dict.fromkeys(PingResult, "red"),
    PingResult.OK: "green",
    PingResult.BUSY: "yellow",
    PingResult.NOT_ASKED: "yellow",
}
_COLUMNS = (
    *KEY_COLUMNS,
    STATE_COLUMN,
    Column("RESULT", colours=RESULT_COLOURS, folds=False),
    Column("CONNECT", folds=False),
    Column("TTFT", folds=False),
    Column("TOTAL", folds=False),
    Column("TOKENS", folds=False),
    Column("DETAIL"),
)
_LEAST_DETAIL = 40
"""Cells of the last column. Where a terminal has fewer left for it, the details stand below the table."""
_LEFT_OUT_FIRST = ("TOKENS", "CONNECT", "TTFT")
"""On a terminal that is too narrow also without the details."""


class PingedInstance(NamedTuple):
    """A result, and the instance as the controller reports it; None where it does not know the instance."""

    ping: Ping
    instance: KnownInstance | None

    def as_object(self) -> PrintedPing:
        """For json and yaml. Times are in seconds; null is unknown."""
        ping, instance = self.ping, self.instance
        return {
            **identity_object(ping.key),
            "state": None if instance is None else instance.state,
            "drained": None if instance is None else instance.drain is not None,
            "result": ping.result,
            "connect_secs": _rounded(ping.connect),
            "ttft_secs": _rounded(ping.ttft),
            "total_secs": _rounded(ping.total),
            "tokens": ping.tokens,
            "detail": ping.detail or None,
        }

    @property
    def cells(self) -> list[str]:
        """The row of the table."""
        ping = self.ping
        return [
            *key_cells(ping.key),
            "-" if self.instance is None else state_text(self.instance),
            ping.result.value,
            *map(_time_text, (ping.connect, ping.ttft, ping.total)),
            "-" if ping.tokens is None else str(ping.tokens),
            ping.detail or "-",
        ]


def print_pings(pinged: Sequence[PingedInstance], *, headers: bool) -> None:
    """Prints the table. Where a terminal is too narrow, each detail stands below once, and some times are left out."""
    rows = [each.cells for each in pinged]
    shown = _columns_that_fit(rows) if is_terminal() else range(len(_COLUMNS))
    columns = [_COLUMNS[number] for number in shown]
    print_table(columns, [[row[number] for number in shown] for row in rows], headers=headers)
    if len(_COLUMNS) - 1 not in shown:
        keys: defaultdict[str, list[InstanceKey]] = defaultdict(list)
        for ping, _ in pinged:
            keys[ping.detail].append(ping.key)
        print_lines(f"{first_references(keys[detail])}: {detail}" for detail in keys if detail)


def _columns_that_fit(rows: Sequence[Sequence[str]]) -> Sequence[int]:
    """Their numbers, by the width of the terminal."""
    headers = [column.header for column in _COLUMNS]
    widths = [max(map(cell_width, column)) + len(GAP) for column in zip(headers, *rows, strict=True)]
    left = shutil.get_terminal_size().columns - sum(widths[:-1])
    if left >= _LEAST_DETAIL:
        return range(len(_COLUMNS))
    shown = list(range(len(_COLUMNS) - 1))
    for number in map(headers.index, _LEFT_OUT_FIRST):
        if left < -len(GAP):
            shown.remove(number)
            left += widths[number]
    return shown


def summary(pings: Iterable[Ping]) -> str:
    """`2 of 5 instances did not answer: 1 refused, 1 busy`; empty if all answered."""
    total, results = 0, Counter[str]()
    for ping in pings:
        total += 1
        results.update(() if ping.answered else (ping.result.value,))
    if not results:
        return ""
    counts = ", ".join(f"{count} {result}" for result, count in results.most_common())
    return f"{results.total()} of {total} {'instance' if total == 1 else 'instances'} did not answer: {counts}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _time_text(seconds: float | None) -> str:
    """`0.4ms`, `41ms` or `19.0s`."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f}s"
    return f"{seconds * 1000:.0f}ms" if seconds >= 0.01 else f"{seconds * 1000:.1f}ms"  # noqa: PLR2004 - 10 ms
