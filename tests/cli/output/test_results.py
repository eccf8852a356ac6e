"""An action on several instances: its lines, documents and exit codes."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.cli.output.results import AT_ONCE, Outcome, exit_code_of, run_for_each
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import ConditionNotMet, ControllerRefused, ControllerUnreachable, CtlError, NotAllowed, NotFound

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


MANY = [InstanceKey("a@llm", "h", port) for port in range(1, 297)]


def test_many_actions_run_at_the_same_time_and_print_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    together = threading.Barrier(AT_ONCE, timeout=30)

    def action(key: InstanceKey) -> str:
        if key.port > 200:  # by then as many run as ever do; 96 more are six times as many
            together.wait()
        return "done"

    assert run_for_each(MANY, action, OutputFormat.TEXT) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"a@llm/h:{key.port} done" for key in MANY]
    assert err == ""


def test_what_fails_for_all_is_met_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    tried: list[InstanceKey] = []

    def action(key: InstanceKey) -> str:
        tried.append(key)
        raise NotAllowed("401")

    assert run_for_each(MANY, action, OutputFormat.TEXT) == 7
    assert tried == MANY[:1]
    assert capsys.readouterr().err == "ctl: 401\nctl: 295 not tried: a@llm/h:2 and those after it\n"


def test_when_the_controller_goes_down_midway_what_was_tried_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    tried: set[int] = set()

    def action(key: InstanceKey) -> str:
        tried.add(key.port)
        if key.port == 150:
            raise ControllerUnreachable("gone")
        return "done"

    assert run_for_each(MANY, action, OutputFormat.JSON) == 3
    results = {each["port"]: each["result"] for each in json.loads(capsys.readouterr().out)}
    assert {port for port, result in results.items() if result == "not tried"} == set(results) - tried
    assert [results[149], results[150], results[296]] == ["done", "failed", "not tried"]
    assert tried == set(range(1, len(tried) + 1)), "those after it are left out, not some in between"
