"""Documents and lines on stdout, and messages on stderr. What only a process shows is in test_process."""

from __future__ import annotations

import json

import pytest
import yaml

from dbgpt_ctl.cli.output.stdout import json_text, print_csv, print_yaml, say

HOSTILE = "a\x1b[31m\u202e\ud800深"


def test_json_escapes_what_a_terminal_obeys() -> None:
    text = json_text({"name": HOSTILE, "delete": "\x7f"})
    assert text.isprintable()
    assert "深" in text
    assert json.loads(text) == {"name": HOSTILE, "delete": "\x7f"}


def test_yaml_escapes_what_a_terminal_obeys_and_has_no_anchors(capsys: pytest.CaptureFixture[str]) -> None:
    shared = ["x"]
    print_yaml([{"name": "a\x1b[31m\u202e深"}, {"first": shared, "second": shared}])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "&" not in out
    assert yaml.safe_load(out) == [{"name": "a\x1b[31m\u202e深"}, {"first": ["x"], "second": ["x"]}]


def test_csv_has_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv(("a", "b", "c", "d"), [{"a": "=1+1", "b": None, "c": True, "d": 1.5}], headers=True)
    assert capsys.readouterr().out == "a,b,c,d\n'=1+1,,true,1.5\n"


@pytest.mark.parametrize("start", "=+-@\uff1d\uff0b\uff0d\uff20")
@pytest.mark.parametrize(("before", "shown"), [("", "'"), ("\t", "\\x09"), ("\r", "\\x0d"), ("\n", "\\x0a")])
def test_csv_has_no_formula_with_any_start(
    capsys: pytest.CaptureFixture[str], start: str, before: str, shown: str
) -> None:
    print_csv(("text", "number"), [{"text": f"{before}{start}1+1", "number": -1.5}], headers=False)
    assert capsys.readouterr().out == f"{shown}{start}1+1,-1.5\n"


def test_a_message_is_one_escaped_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb\x1b[31m")
    assert capsys.readouterr().err == "ctl: a\\x0ab\\x1b[31m\n"
