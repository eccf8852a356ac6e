from __future__ import annotations

import pytest

from dbgpt_ctl.cli.output.table import Column, fitted, plain

COLUMNS = [
    Column("NAME"),
    Column("PORT", folds=False),
    Column("STATE", colours={"healthy": "green"}, folds=False),
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
def test_fitted_lines_fit_and_hold_every_character(width: int, *, colour: bool) -> None:
    lines = fitted(COLUMNS, ROWS, width=width, colour=colour, headers=True)
    bare = [line.replace("\x1b[32m", "").replace("\x1b[0m", "").replace("\x1b[1m", "") for line in lines]
    assert max(map(len, bare)) <= width
    assert "".join(bare).count("x") == 60
    assert "".join(bare).count("z") == 40


def test_the_state_is_in_colour_and_fitted() -> None:
    lines = fitted(COLUMNS, ROWS, width=200, colour=True, headers=True)
    assert lines[0].startswith("╭")
    assert sum("\x1b[32mhealthy\x1b[0m" in line for line in lines) == 1


def test_without_colour_there_is_no_frame() -> None:
    lines = fitted(COLUMNS, ROWS, width=200, colour=False, headers=True)
    assert not any("\x1b" in line or "│" in line for line in lines)
    assert lines[1] == "qwen" + " " * 58 + "8001  healthy    10.0.0.4"


@pytest.mark.parametrize(
    ("width", "framed", "folded"),
    [
        (126, True, False),
        (125, False, False),
        (119, False, False),
        (118, True, True),
        (46, True, True),
        (45, False, True),
    ],
)
def test_the_frame_goes_before_a_text_is_folded(width: int, *, framed: bool, folded: bool) -> None:
    """Natural widths are 60, 4, 9 and 40; folding columns keep 10."""
    shown = fitted(COLUMNS, ROWS, width=width, colour=True, headers=True)
    assert shown[0].startswith("╭") == framed
    assert ("x" * 60 not in "".join(shown)) == folded
    assert all(word in "".join(shown) for word in ("unhealthy", "8001", "PORT", "STATE"))


def test_a_state_is_never_in_pieces() -> None:
    lines = fitted(COLUMNS, ROWS, width=30, colour=True, headers=True)
    bare = list(plain(COLUMNS, ROWS, headers=True))
    assert lines == [bare[0], bare[1].replace("healthy", "\x1b[32mhealthy\x1b[0m"), *bare[2:]]
    assert fitted(COLUMNS, ROWS, width=30, colour=False, headers=True) == bare


def test_markup_in_a_cell_is_text() -> None:
    assert fitted([Column("NAME")], [["[red]x[/red]"]], width=80, colour=False, headers=False) == ["[red]x[/red]"]
