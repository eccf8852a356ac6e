"""Tables: drawn by rich on a terminal; in a pipe plain text, two spaces apart, one line per row, never cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GAP = "  "
LEAST_FOLDED = 10
"""Least width of a folded column, in cells."""
CODES = {"red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}
MAX_RICH_ROWS = 500
"""Longer tables are plain on a terminal too: rich takes three seconds for 5,000 rows."""


@dataclass(frozen=True, slots=True)
class Column:
    """`colours`: name of a colour by the text of a cell. `folds`: a cell may be folded where the width is short."""

    header: str
    colours: Mapping[str, str] | None = None
    folds: bool = True


def fitted(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int, colour: bool, headers: bool
) -> list[str]:
    """The lines of a table for a terminal of `width` cells. Without `colour` there is no frame either.

    Where the width is short, the frame is left out first; then long texts are folded. A table that is still too wide is
    left to the terminal to wrap, because a state or a port in pieces would be worse.
    """
    natural = _widths(columns, rows, headers=headers)
    least = [min(size, LEAST_FOLDED) if column.folds else size for column, size in zip(columns, natural, strict=True)]
    gaps = len(GAP) * (len(columns) - 1)
    if sum(least) + gaps > width:
        return list(plain(columns, rows, headers=headers, colour=colour))
    edges = 3 * len(columns) + 1
    framed = colour and (sum(natural) + edges <= width or sum(natural) + gaps > width >= sum(least) + edges)
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    frame = box.ROUNDED if framed else None
    table = Table(box=frame, show_header=headers, pad_edge=framed, padding=(0, 1) if framed else (0, len(GAP), 0, 0))
    for column, size in zip(columns, least, strict=True):
        table.add_column(Text(column.header), overflow="fold", no_wrap=not column.folds, min_width=size)
    for row in rows:
        table.add_row(
            *(
                Text.assemble((cell, (column.colours or {}).get(cell, "")))
                for column, cell in zip(columns, row, strict=True)
            )
        )
    console = Console(
        width=width, force_terminal=True, color_system="standard" if colour else None, legacy_windows=False
    )
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def plain(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, headers: bool, colour: bool = False
) -> Iterator[str]:
    """The lines of a table in plain columns. Cells have to be printable."""
    widths = _widths(columns, rows, headers=headers)
    for row in [[column.header for column in columns], *rows] if headers else rows:
        padded = [cell + " " * (size - cell_width(cell)) for cell, size in zip(row, widths, strict=True)]
        if colour:
            padded = [_coloured(column, cell) for column, cell in zip(columns, padded, strict=True)]
        yield GAP.join(padded).rstrip()


def _coloured(column: Column, padded: str) -> str:
    cell = padded.rstrip()
    return coloured(cell, (column.colours or {}).get(cell)) + padded[len(cell) :]


def coloured(text: str, colour: str | None) -> str:
    """The text in one of the colours of CODES; unchanged for None."""
    code = CODES.get(colour or "")
    return text if code is None else f"\x1b[{code}m{text}\x1b[0m"


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, headers: bool) -> list[int]:
    """The width of each column, in cells."""
    shown = [[column.header for column in columns], *rows] if headers else rows
    return [max(map(cell_width, cells)) for cells in zip(*shown, strict=True)] if shown else [0] * len(columns)


def cell_width(text: str) -> int:
    """The width of a text on a terminal: a Chinese character takes two cells, a combining one none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
