"""An action on several instances: its lines, documents and exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.cli.output.results import Outcome, exit_code_of, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import (
    ConditionNotMet,
    ControllerRefused,
    ControllerUnreachable,
    CtlError,
    NotAllowed,
    NotFound,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = [InstanceKey("a@llm", "h", port) for port in (1, 2, 3)]


def failing(errors: dict[int, CtlError]) -> Callable[[InstanceKey], str]:
    """An action that raises these errors, by port."""

    def action(key: InstanceKey) -> str:
        if key.port in errors:
            raise errors[key.port]
        return "done"

    return action


def test_a_failure_does_not_end_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_for_each(KEYS, failing({2: NotFound("not known")}), OutputFormat.TEXT) == 4
    out, err = capsys.readouterr()
    assert out == "a@llm/h:1 done\na@llm/h:3 done\n"
    assert err == "ctl: a@llm/h:2: not known\n"


@pytest.mark.parametrize(("error", "code"), [(ControllerUnreachable("gone"), 3), (NotAllowed("401"), 7)])
def test_an_error_of_the_controller_ends_it(capsys: pytest.CaptureFixture[str], error: CtlError, code: int) -> None:
    assert run_for_each(KEYS, failing({2: error}), OutputFormat.NAME) == code
    out, err = capsys.readouterr()
    assert out == "a@llm/h:1\n"
    assert err == f"ctl: {error}\nctl: 1 not tried: a@llm/h:3\n"


@pytest.mark.parametrize(("form", "load"), [(OutputFormat.JSON, json.loads), (OutputFormat.YAML, yaml.safe_load)])
def test_a_document_contains_every_instance(
    capsys: pytest.CaptureFixture[str], form: OutputFormat, load: Callable[[str], object]
) -> None:
    run_for_each(KEYS, failing({2: ControllerUnreachable("gone")}), form)
    assert load(capsys.readouterr().out) == [
        {"model_name": "a@llm", "host": "h", "port": 1, "result": "done"},
        {
            "model_name": "a@llm",
            "host": "h",
            "port": 2,
            "result": "failed",
            "error": "controller_unreachable",
            "detail": "gone",
        },
        {"model_name": "a@llm", "host": "h", "port": 3, "result": "not tried"},
    ]


def test_a_result_may_have_facts_a_line_and_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    done = Outcome(KEYS[0], "drained", ConditionNotMet("late"), "drained for long", {"state": "healthy"})
    assert run_for_each(KEYS[:1], lambda _key: done, OutputFormat.TEXT) == 5
    out, err = capsys.readouterr()
    assert (out, err) == ("a@llm/h:1 drained for long\n", "ctl: a@llm/h:1: late\n")


def test_exit_codes() -> None:
    assert exit_code_of([]) == 0
    assert exit_code_of([NotFound("x"), NotFound("y")]) == 4
    assert exit_code_of([NotFound("x"), ControllerRefused("y")]) == 6
