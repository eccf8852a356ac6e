"""`ctl help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Run


@pytest.mark.parametrize("verbs", [[], ["models"], ["models", "list"], ["db", "check"], ["help"]])
def test_it_is_the_help_of_the_verb(run: Run, verbs: list[str]) -> None:
    done = run("help", *verbs)
    assert done.out == run(*verbs, "--help").out
    assert done.out.startswith(" ".join(["Usage: ctl", *verbs]))


def test_an_unknown_verb_is_named(run: Run) -> None:
    done = run("help", "models", "lst", expect=2)
    assert done.err == "ctl: No such command 'lst'. Did you mean 'list'? See 'ctl models --help'.\n"


def test_options_before_it_do_no_harm(run: Run) -> None:
    assert run("-a", "http://127.0.0.1:1", "-q", "help", "models").out == run("models", "--help").out
