"""Bar charts of the tables in docs/figures.md, as SVG: `python -m benchmarks.charts` draws them again.

A chart shows one table: a group of bars for each row, and in it a bar for each side that was measured. The scale is
logarithmic, because one side is often a hundred times another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "figures.md"
IMAGES = ROOT / "docs" / "images"
CHARTS = {
    "figures-embedded.svg": "Embedded registry, 2,000 instances, requests a second",
    "figures-mariadb.svg": "MariaDB, 1,000 instances, requests a second",
}
"""The file of each chart, and the title of its table, which is the head of its first column."""

WIDTH, LABELS_WIDTH, VALUES_WIDTH, MARGIN = 860, 250, 70, 16
BAR, GAP, TITLE_HEIGHT, LEGEND_HEIGHT = 14, 10, 34, 30
COLORS = ("#1f6feb", "#8b949e", "#d0d7de")
TEXT_COLOR, LINE_COLOR = "#57606a", "#d8dee4"


@dataclass(frozen=True)
class Table:
    """The figures of one table: for each row its name, and a figure of each side, None where it was not measured."""

    title: str
    sides: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


def tables(text: str) -> Iterator[Table]:
    """The tables of a Markdown text that compare sides, in order. Columns from `ratio` on are left out."""
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if len(lines) < 3 or not lines[0].startswith("|") or "ratio" not in _cells(lines[0]):
            continue
        head = _cells(lines[0])
        end = head.index("ratio")
        rows = [_cells(line) for line in lines[2:]]
        figures = [(row[0], tuple(map(_figure, row[1:end]))) for row in rows]
        used = [i for i in range(end - 1) if head[i + 1] and any(values[i] is not None for _, values in figures)]
        yield Table(
            head[0],
            tuple(head[i + 1] for i in used),
            tuple((name.replace("`", ""), tuple(values[i] for i in used)) for name, values in figures),
        )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _figure(cell: str) -> float | None:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        return None


def drawn(table: Table) -> str:
    """The chart as the text of an SVG file."""
    left, right = MARGIN + LABELS_WIDTH, WIDTH - MARGIN - VALUES_WIDTH
    top = math.ceil(math.log10(max(value or 1.0 for _, values in table.rows for value in values)))
    group = BAR * len(table.sides) + GAP
    bottom = TITLE_HEIGHT + group * len(table.rows)
    height = bottom + LEGEND_HEIGHT + MARGIN

    def x(value: float) -> float:
        return left + (right - left) * math.log10(max(value, 1.0)) / top

    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" fill="{TEXT_COLOR}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="22" font-size="15" font-weight="bold">{escape(table.title)} (logarithmic)</text>',
    ]
    for power in range(top + 1):
        parts += _grid_line(x(10.0**power), f"{10**power:,}", bottom)
    for number, (name, values) in enumerate(table.rows):
        y = TITLE_HEIGHT + GAP / 2 + group * number
        middle = y + BAR * len(values) / 2
        parts.append(_text(left - 8, middle + 4, name, anchor="end"))
        for i, value in enumerate(values):
            if value is not None:
                width = x(value) - left
                parts.append(_bar(left, y + BAR * i, width, COLORS[i]))
                parts.append(_text(left + width + 5, y + BAR * i + 11, f"{value:,.0f}", size=11))
    parts += _legend(table.sides, left, bottom + LEGEND_HEIGHT)
    return "\n".join([*parts, "</svg>", ""])


def _grid_line(x: float, label: str, bottom: float) -> list[str]:
    line = f'<line x1="{x:.1f}" y1="{TITLE_HEIGHT}" x2="{x:.1f}" y2="{bottom}" stroke="{LINE_COLOR}"/>'
    return [line, _text(x, bottom + 12, label, anchor="middle", size=10)]


def _bar(x: float, y: float, width: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR - 2}" fill="{color}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(sides: Sequence[str], left: float, y: float) -> Iterator[str]:
    for i, side in enumerate(sides):
        yield _bar(left + 150 * i, y, 12, COLORS[i])
        yield _text(left + 150 * i + 18, y + 11, side)


def charts(text: str) -> dict[str, str]:
    """The text of each chart by its file name, from the text of docs/figures.md. Raises KeyError without a table."""
    by_title = {table.title: table for table in tables(text)}
    return {name: drawn(by_title[title]) for name, title in CHARTS.items()}


def write(text: str) -> None:
    """Draws all charts into docs/images."""
    for name, chart in charts(text).items():
        (IMAGES / name).write_text(chart)


if __name__ == "__main__":
    write(FIGURES.read_text())
