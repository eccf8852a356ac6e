"""Columns: a rich table on a terminal; in a pipe plain text, two spaces apart, one line per row, never cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GAP = "  "
MAX_RICH_ROWS = 500
"""Beyond, a terminal gets plain columns too: rich takes three seconds for 5,000 rows, and nobody sees their frame."""


@dataclass(frozen=True, slots=True)
class Column:
    """`colours`: the name of a colour by the cell's text."""

    header: str
    colours: Mapping[str, str] | None = None


def framed(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int, colour: bool, headers: bool
) -> list[str]:
    """The lines of a table that fits into `width` cells: what is too long goes on in the next line. Without `colour`
    there is no frame either.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    frame = box.ROUNDED if colour else None
    table = Table(box=frame, show_header=headers, pad_edge=colour, padding=(0, 1) if colour else (0, 2, 0, 0))
    for column in columns:
        table.add_column(Text(column.header), overflow="fold")
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


def plain(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, headers: bool) -> Iterator[str]:
    """The lines, without line ends. Cells are printable."""
    shown = [[column.header for column in columns], *rows] if headers else rows
    widths = [max(map(_cells, cells)) for cells in zip(*shown, strict=True)]
    for row in shown:
        padded = (cell + " " * (room - _cells(cell)) for cell, room in zip(row, widths, strict=True))
        yield GAP.join(padded).rstrip()


def _cells(text: str) -> int:
    """The width on a terminal: Chinese characters take two cells, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
