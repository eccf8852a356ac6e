from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgpt_ctl.text.escaping import defused, escaped, quoted, shell_argument, unescaped

ESCAPES = st.text(st.sampled_from("\\xuU05c1b20e\x1b\u202eA"), max_size=30)


@settings(deadline=None)
@given(st.text() | ESCAPES)
def test_escaped_text_is_printable_and_reads_back_as_it_was(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert unescaped(shown) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("qwen 深度求索/7b é", "qwen 深度求索/7b é"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        ("\x7f\x85\xa0", "\\x7f\\x85\\xa0"),
        ("\u202egpj\u2066", "\\u202egpj\\u2066"),
        ("\u2028\ufeff", "\\u2028\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        ("\ud800", "\\ud800"),
        ("a\u3164b\u2800c\ufe0f", "a\\u3164b\\u2800c\\ufe0f"),
        ("e\u0301", "e\u0301"),
        ("Z" + "\u0301" * 6, "Z" + "\u0301" * 4 + "\\u0301" * 2),
        ("C:\\models\\qwen", "C:\\models\\qwen"),
        ("\\x1b", "\\x5cx1b"),
        ("\\\x1b", "\\\\x1b"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_line_with_escaped_parts_is_not_escaped_again() -> None:
    assert defused(f"{escaped(chr(27))} and \x1b") == "\\x1b and \\x1b"


def test_a_quote_is_bounded() -> None:
    assert quoted("a\nb") == "'a\\x0ab'"
    assert len(quoted("x" * 100_000)) < 220


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("qwen3@llm/10.0.0.4:8001", "qwen3@llm/10.0.0.4:8001"),
        ("a b", "'a b'"),
        ("", "''"),
        ("it's $(id)", "'it'\\''s $(id)'"),
        ("a\\'; touch X; b", "'a'\\\\''\\''; touch X; b'"),
    ],
)
def test_an_argument_of_a_shell(text: str, argument: str) -> None:
    assert shell_argument(text) == argument


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_hostile_arguments_reach_a_command_as_they_are(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    texts = ["a\\'; echo X; b\\'", "\\\\'", "'\\", "-n", '$(id) `id` !! ~ * "', "{a,b}", "a\\x5c"]
    for text in texts:
        command = f"printf '<%s>' {shell_argument(text)}"
        done = subprocess.run([shell, "-c", command], capture_output=True, check=True)
        assert done.stdout.decode() == f"<{text}>"
