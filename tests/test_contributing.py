"""The table of files to touch in CONTRIBUTING.md names real files, and an example is found in each of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MOST = {"an endpoint": 7, "a database": 2}
"""How many files of the package one change may need."""


@dataclass(frozen=True)
class Row:
    """One kind of change, and an example of it that the project has."""

    kind: str
    package: tuple[Path, ...]
    beside: tuple[Path, ...]
    example: str

    def __str__(self) -> str:
        return self.kind


def rows() -> list[Row]:
    _, _, section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Files to touch")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return [_row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines[1:]]


def _row(kind: str, package: str, beside: str, example: str) -> Row:
    below = ROOT / "dbgpt_ctl"
    return Row(
        kind,
        tuple(below / path for path in _paths(package)),
        tuple(ROOT / path for path in _paths(beside)),
        example.strip("`"),
    )


def _paths(cell: str) -> list[str]:
    return [
        code for code in re.findall(r"`([^`]+)`", cell) if re.fullmatch(r"[\w./-]+\.\w+", code) or code.startswith(".")
    ]


def test_the_table_has_the_kinds_of_change_that_are_made_most() -> None:
    assert {row.kind for row in rows()} >= {"a setting", "a command", "an endpoint", "a database"}


@pytest.mark.parametrize("row", rows(), ids=str)
def test_each_file_that_is_named_holds_the_example(row: Row) -> None:
    words = {row.example.replace("_", space) for space in ("_", " ", "")}
    for path in (*row.package, *row.beside):
        text = path.read_text().lower()
        assert any(word.lower() in text for word in words), f"{path} does not hold {row.example}"


@pytest.mark.parametrize("row", rows(), ids=str)
def test_few_files_of_the_package_are_touched(row: Row) -> None:
    assert len(row.package) <= MOST.get(row.kind, 3)
