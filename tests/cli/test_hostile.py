"""No name that a stranger registers reaches a terminal, a spreadsheet or a script as something else than text."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.fake_controller import FakeController, listed

if TYPE_CHECKING:
    from tests.cli.conftest import Run

NAMES = [
    "[red]m[/red]",
    "a\x1b[31mb\x1b]0;title\x07",
    "two\nlines\r\n",
    "tab\there",
    "\u202egnp.exe\u2066",
    "\u2028\u2029\x85",
    "\x7f\x9b31m",
    "zero\u200bwidth\ufeff",
    "\U000e0041tag",
    "no\xa0break",
    "\\x1b[31m",
    "lone \ud800 surrogate",
]
ODD = [listed(f"{name}@llm\x1b", f"h{name}", prompt_template=name) for name in NAMES]
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("form", ["table", "wide", "name", "json", "yaml", "csv"])
def test_nothing_a_terminal_obeys_gets_out(run: Run, fake: FakeController, form: str) -> None:
    fake.body = ODD
    out = run("models", "list", "-o", form).out
    assert {char for char in out if unicodedata.category(char) in OBEYED} == {"\n"}
    if form in {"table", "wide", "name"}:
        assert out.count("\n") == len(NAMES) + (form != "name")
        assert "[red]m[/red]" in out
        assert "two\\x0alines\\x0d\\x0a" in out
        assert "\\u202egnp.exe\\u2066" in out
        assert "\\x5cx1b[31m" in out


def test_json_and_yaml_hold_the_true_values(run: Run, fake: FakeController) -> None:
    fake.body = ODD
    assert json.loads(run("models", "list", "-o", "json").out) == ODD
    assert yaml.safe_load(run("models", "list", "-o", "yaml").out) == ODD


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_a_file_for_apply_holds_no_such_name(run: Run, fake: FakeController, form: str) -> None:
    """What is left out of it is named on stderr."""
    odd_weights = [listed("w@llm", weight=weight, port=port) for port, weight in enumerate((1e999, [], "x", True), 1)]
    fake.body = [*ODD, *odd_weights, listed("'&*!%`:# - {[|>@llm", prompt_template="<<: *a # !!python/object")]
    done = run("export", "-o", form, expect=5)
    assert {char for char in done.out + done.err if unicodedata.category(char) in OBEYED} == {"\n"}
    assert len(done.err.splitlines()) == len(ODD) + len(odd_weights)
    assert yaml.safe_load(done.out)["instances"] == [
        {
            "model": "'&*!%`:# - {[|>@llm",
            "host": "10.0.0.4",
            "port": 8001,
            "prompt_template": "<<: *a # !!python/object",
        }
    ]
    Path("f").write_text(done.out)
    assert run("diff", "-f", "f").out == ""


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum(a1)"])
def test_csv_holds_no_formula(run: Run, fake: FakeController, name: str) -> None:
    fake.body = [listed(name, prompt_template=name)]
    _, row = csv.reader(io.StringIO(run("models", "list", "-o", "csv").out))
    assert row[0] == row[7] == f"'{name}"


def test_what_a_controller_answers_is_escaped_in_an_error(run: Run, fake: FakeController) -> None:
    fake.status, fake.body = 422, {"detail": "no \x1b[31m\u202e here", "code": "invalid_instance"}
    err = run("models", "register", "qwen/h:1", expect=6).err
    assert err.count("\n") == 1
    assert {char for char in err if unicodedata.category(char) in OBEYED} == {"\n"}


@pytest.mark.parametrize("word", ["a\x1b[31m/h:1", "a\u202e/h:1", "a\nb/h:1"])
def test_what_was_typed_is_escaped_in_an_error(run: Run, fake: FakeController, word: str) -> None:
    err = run("models", "register", word, expect=2).err
    assert {char for char in err if unicodedata.category(char) in OBEYED} == {"\n"}
    assert err.count("\n") == 1


ENDS_OF_TIME = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
ODD_WEIGHTS: list[Any] = [10**400, float("nan"), float("inf"), [], None, "1"]
ODD_FACTS: list[dict[str, Any]] = [
    *({"weight": weight} for weight in ODD_WEIGHTS),
    *({"port": port} for port in (10**400, -1, True)),
    *({"last_heartbeat": text, "registered_at": text} for text in ENDS_OF_TIME),
    {"prompt_template": [1]},
]


@pytest.mark.parametrize("facts", ODD_FACTS, ids=lambda facts: str(facts)[:40])
@pytest.mark.parametrize("words", [("models", "list", "-o", "wide"), ("models", "list", "-o", "csv")])
def test_facts_that_no_instance_has_are_printed(
    run: Run, fake: FakeController, words: tuple[str, ...], facts: dict[str, Any]
) -> None:
    fake.body = [listed("a@llm", "127.0.0.1") | facts]
    assert run(*words).out.count("\n") == 2
