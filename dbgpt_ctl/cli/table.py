"""Columns on a terminal or in a pipe: plain text, two spaces apart, one line per row.

Why not rich's table: it takes three seconds for 5,000 rows. Its widths of characters are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GAP = "  "
_NARROWEST = 12
"""Columns are not folded below this: on a terminal too small for all of them the terminal wraps the lines."""


@dataclass(frozen=True, slots=True)
class Column:
    """`folds`: on a narrow terminal its cells may go on in the next line. `colours`: ANSI codes by the cell's text."""

    header: str
    folds: bool = False
    colours: Mapping[str, str] | None = None


def lay_out(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int | None, colour: bool, headers: bool
) -> Iterator[str]:
    """The lines, without line ends. `width` is the terminal's, in cells; None: never fold. Cells are printable."""
    shown = [[column.header for column in columns], *rows] if headers else rows
    widths = _fitted(columns, [max(map(_cells, cells)) for cells in zip(*shown, strict=True)], width)
    for index, row in enumerate(shown):
        paint = colour and not (headers and index == 0)
        if all(_cells(cell) <= room for cell, room in zip(row, widths, strict=True)):
            yield _line(columns, row, widths, colour=paint)
            continue
        folded = [_folded(cell, room) for cell, room in zip(row, widths, strict=True)]
        for pieces in zip_longest(*folded, fillvalue=""):
            yield _line(columns, pieces, widths, colour=paint)


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    parts = []
    for column, cell, room in zip(columns, cells, widths, strict=True):
        code = column.colours.get(cell) if colour and column.colours else None
        painted = f"\x1b[{code}m{cell}\x1b[0m" if code else cell
        parts.append(painted + " " * (room - _cells(cell)))
    return GAP.join(parts).rstrip()


def _fitted(columns: Sequence[Column], widths: list[int], width: int | None) -> list[int]:
    """Takes what is too much from the widest column that folds, again and again."""
    excess = 0 if width is None else sum(widths) + len(GAP) * (len(widths) - 1) - width
    least = [max(_NARROWEST, len(column.header)) for column in columns]
    while excess > 0:
        folding = [at for at, column in enumerate(columns) if column.folds and widths[at] > least[at]]
        if not folding:
            break
        widths[max(folding, key=widths.__getitem__)] -= 1
        excess -= 1
    return widths


def _folded(cell: str, room: int) -> list[str]:
    lines, used = [""], 0
    for char in cell:
        size = _cells(char)
        if used + size > room:
            lines.append("")
            used = 0
        lines[-1] += char
        used += size
    return lines


def _cells(text: str) -> int:
    """The width on a terminal: Chinese characters take two cells, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
