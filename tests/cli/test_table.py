from __future__ import annotations

import pytest

from dbgpt_ctl.cli.table import Column, lay_out

COLUMNS = [
    Column("NAME", folds=True),
    Column("PORT"),
    Column("STATE", colours={"healthy": "32"}),
    Column("HOST", folds=True),
]
ROWS = [
    ["qwen", "8001", "healthy", "10.0.0.4"],
    ["x" * 60, "1", "unhealthy", "z" * 40],
    ["深度求索", "22", "drained", "h"],
]


def lines(width: int | None = None, *, colour: bool = False, headers: bool = True) -> list[str]:
    return list(lay_out(COLUMNS, ROWS, width=width, colour=colour, headers=headers))


def test_without_a_width_a_row_is_a_line_and_nothing_is_cut() -> None:
    assert lines() == [
        "NAME" + " " * 58 + "PORT  STATE      HOST",
        "qwen" + " " * 58 + "8001  healthy    10.0.0.4",
        "x" * 60 + "  1     unhealthy  " + "z" * 40,
        "深度求索" + " " * 54 + "22    drained    h",
    ]


@pytest.mark.parametrize("width", [60, 80, 119])
def test_folded_lines_fit_and_hold_every_character(width: int) -> None:
    folded = lines(width)
    assert max(map(len, folded)) <= width
    assert "".join(folded).count("x") == 60
    assert "".join(folded).count("z") == 40
    assert sum("unhealthy" in line for line in folded) == 1


def test_on_a_tiny_terminal_the_columns_stay_legible() -> None:
    assert max(map(len, lines(10))) == 12 + 2 + 4 + 2 + 9 + 2 + 12


def test_wide_enough_is_not_folded() -> None:
    assert lines(121) == lines()


def test_colour_changes_no_place_and_never_the_header() -> None:
    painted = lines(colour=True)
    assert painted[1] == lines()[1].replace("healthy", "\x1b[32mhealthy\x1b[0m")
    assert [painted[0], *painted[2:]] == [lines()[0], *lines()[2:]]


def test_without_headers() -> None:
    assert lines(headers=False) == lines()[1:]
    assert list(lay_out(COLUMNS, [["a", "1", "healthy", "h"]], width=None, colour=False, headers=False)) == [
        "a  1  healthy  h"
    ]


def test_no_trailing_blanks() -> None:
    assert all(line == line.rstrip() for line in lines(80))
