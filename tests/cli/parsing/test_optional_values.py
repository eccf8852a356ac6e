"""Options whose value may be left out."""

from __future__ import annotations

import pytest

from dbgpt_ctl.cli.parsing.optional_values import with_optional_values


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        (["qwen", "--ping"], ["qwen", "--ping=generate"]),
        (["--ping", "qwen"], ["--ping=generate", "qwen"]),
        (["--ping=metadata", "qwen"], ["--ping=metadata", "qwen"]),
        (["--ping", "--", "--ping"], ["--ping=generate", "--", "--ping"]),
        (["--no-probe", "-o", "json"], ["--no-probe", "-o", "json"]),
    ],
)
def test_a_bare_option_gets_its_value(given: list[str], expected: list[str]) -> None:
    assert with_optional_values(given) == expected
