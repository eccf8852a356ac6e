from __future__ import annotations

from dbgpt_ctl.controller.metrics.declarations import OTHER
from dbgpt_ctl.controller.metrics.model_names import ModelNames


def test_a_name_keeps_its_place_while_there_is_one() -> None:
    names = ModelNames(limit=2)
    assert [names.label_of(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]


def test_of_the_models_that_come_together_those_with_more_instances_go_first() -> None:
    names = ModelNames(limit=2)
    assert names.keep({"a": 1, "b": 1, "c": 5}) == set()
    assert names.placed == {"c", "a"}


def test_names_that_a_stranger_registers_do_not_push_out_a_model_in_the_lists() -> None:
    names = ModelNames(limit=2)
    names.keep({"real": 1, "other-real": 1})
    assert names.keep({"real": 1, "other-real": 1, "aaa": 100, "aab": 100}) == set()
    assert names.placed == {"real", "other-real"}


def test_a_model_in_no_list_gives_its_place_only_when_it_is_needed() -> None:
    names = ModelNames(limit=2)
    names.keep({"gone": 1})
    assert names.keep({"new": 1}) == set()
    assert names.placed == {"gone", "new"}
    assert names.keep({"new": 1, "newer": 1}) == {"gone"}
    assert names.placed == {"new", "newer"}
