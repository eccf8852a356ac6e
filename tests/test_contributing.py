"""The table of files to touch in CONTRIBUTING.md names real files and true counts; an example is found in each file."""

from __future__ import annotations

import pytest

from scripts.structure import Change, changes
from tests.support.process import ROOT

MOST = {"a field of an instance": 8, "a verb on instances": 9, "an endpoint": 7, "a database": 2}
"""How many files of the package one change may need; any other needs at most three."""
CHANGES = changes(ROOT)


def test_the_table_has_the_kinds_of_change_that_are_made_most() -> None:
    assert {change.kind for change in CHANGES} >= {"a setting", "a command", "an endpoint", "a database"}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_file_that_is_named_holds_the_example(change: Change) -> None:
    words = {change.example.replace("_", space) for space in ("_", " ", "")}
    for path in (*change.package, *change.beside):
        text = path.read_text().lower()
        assert any(word.lower() in text for word in words), f"{path} does not hold {change.example}"


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_table_counts_the_files_in_which_the_example_stands(change: Change) -> None:
    assert change.shown == len(change.naming)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_few_files_of_the_package_are_touched(change: Change) -> None:
    assert len(change.package) <= MOST.get(change.kind, 3)
