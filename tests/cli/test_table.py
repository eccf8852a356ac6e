from __future__ import annotations

import pytest

from dbgpt_ctl.cli.table import Column, framed, plain

COLUMNS = [
    Column("NAME"),
    Column("PORT"),
    Column("STATE", colours={"healthy": "green"}),
    Column("HOST"),
]
ROWS = [
    ["qwen", "8001", "healthy", "10.0.0.4"],
    ["x" * 60, "1", "unhealthy", "z" * 40],
    ["深度求索", "22", "drained", "h"],
]


def test_plain_a_row_is_a_line_and_nothing_is_cut() -> None:
    assert list(plain(COLUMNS, ROWS, headers=True)) == [
        "NAME" + " " * 58 + "PORT  STATE      HOST",
        "qwen" + " " * 58 + "8001  healthy    10.0.0.4",
        "x" * 60 + "  1     unhealthy  " + "z" * 40,
        "深度求索" + " " * 54 + "22    drained    h",
    ]


def test_plain_without_headers() -> None:
    assert list(plain(COLUMNS, [["a", "1", "healthy", "h"]], headers=False)) == ["a  1  healthy  h"]


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("width", [60, 80, 119])
def test_framed_lines_fit_and_hold_every_character(width: int, *, colour: bool) -> None:
    lines = framed(COLUMNS, ROWS, width=width, colour=colour, headers=True)
    bare = [line.replace("\x1b[32m", "").replace("\x1b[0m", "").replace("\x1b[1m", "") for line in lines]
    assert max(map(len, bare)) <= width
    assert "".join(bare).count("x") == 60
    assert "".join(bare).count("z") == 40


def test_the_state_is_in_colour_and_framed() -> None:
    lines = framed(COLUMNS, ROWS, width=200, colour=True, headers=True)
    assert lines[0].startswith("╭")
    assert sum("\x1b[32mhealthy\x1b[0m" in line for line in lines) == 1


def test_without_colour_there_is_no_frame() -> None:
    lines = framed(COLUMNS, ROWS, width=200, colour=False, headers=True)
    assert not any("\x1b" in line or "│" in line for line in lines)
    assert lines[1] == "qwen" + " " * 58 + "8001  healthy    10.0.0.4"


def test_markup_in_a_cell_is_text() -> None:
    assert framed([Column("NAME")], [["[red]x[/red]"]], width=80, colour=False, headers=False) == ["[red]x[/red]"]
