"""Measured figures beside their bounds, as Markdown that is also readable in a terminal."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


class MeasurementError(Exception):
    """A figure could not be measured, or would be misleading. The message says why."""


@dataclass(frozen=True)
class Bound:
    """The most, or the least, that a ratio may be."""

    most: float | None = None
    least: float | None = None

    def holds(self, ratio: float) -> bool:
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)

    def __str__(self) -> str:
        return f"≤ {self.most:g}" if self.most is not None else f"≥ {self.least:g}"


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells, then the ratio with its bound where there is one."""

    cells: tuple[str, ...]
    ratio: float | None = None
    bound: Bound | None = None

    @property
    def missed(self) -> bool:
        return self.ratio is not None and self.bound is not None and not self.bound.holds(self.ratio)

    def texts(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}" if self.ratio < 10 else f"{self.ratio:,.0f}"
        bound = str(self.bound or "")
        return (*self.cells, ratio, bound, "" if self.bound is None else "**no**" if self.missed else "yes")


@dataclass
class Section:
    """One table. `columns` are the heads of the rows' cells; the first is the title."""

    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        table = [(*self.columns, "ratio", "bound", "holds"), *(row.texts() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        head, *lines = (_line(cells, widths) for cells in table)
        rule = "|".join(["", f"{'-' * (widths[0] + 2)}", *("-" * (width + 1) + ":" for width in widths[1:]), ""])
        return "\n".join([head, rule, *lines]) + (f"\n\n{self.note}" if self.note else "")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    aligned = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
    return f"| {' | '.join(aligned)} |"


def say(line: str) -> None:
    """Reports progress, on standard error: it is not the result."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def ratio_of(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios of all rounds. A disturbance slows both sides of a round, so it cancels out."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def block(sections: Sequence[Section], now: datetime, versions: Sequence[str]) -> str:
    """All tables under one line with place and date, without the markers."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    where = f"Measured on {now:%Y-%m-%d} by `make bench`: {machine}, {', '.join(versions)}."
    return "\n\n".join([where, *(section.markdown() for section in sections)])
