"""register, deregister and heartbeat against a real controller, and against one that fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

REF = "qwen@llm/10.0.0.4:8001"


def stored(run: Run) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = json.loads(run("models", "list", "-o", "json").out)
    return objects


def test_register(run: Run, controller: str) -> None:
    assert run("models", "register", "qwen/10.0.0.4:8001").out == f"{REF} registered\n"
    args = ["--weight", "2.5", "--prompt-template", "chatml", "--no-check-healthy"]
    run("models", "register", "org/b b", "--type", "reranker", "--host", "[::1]", "--port", "1", *args)
    other, qwen = stored(run)
    assert {**other, "last_heartbeat": None} == {
        "model_name": "org/b b@reranker",
        "host": "[::1]",
        "port": 1,
        "weight": 2.5,
        "check_healthy": False,
        "healthy": True,
        "enabled": True,
        "prompt_template": "chatml",
        "last_heartbeat": None,
    }
    assert (qwen["model_name"], qwen["weight"], qwen["check_healthy"]) == ("qwen@llm", 1.0, True)


def test_deregister_keeps_and_remove_takes_away(run: Run, controller: str) -> None:
    run("models", "register", REF)
    assert run("models", "deregister", REF).out == f"{REF} deregistered\n"
    assert [each["healthy"] for each in stored(run)] == [False]
    assert run("models", "deregister", REF, "--remove").out == f"{REF} removed\n"
    assert stored(run) == []


def test_what_is_listed_by_name_is_taken_by_deregister(run: Run, controller: str) -> None:
    """A host in brackets and one without are two instances; names may look like escapes, or hold slashes."""
    twins = ["q@llm/[::1]:1", "q@llm/::1:1", r"\x5cx41@llm/h:1", "A@llm/h:1", "a/b:7@llm/h:1", "a@llm/h:1"]
    twins += [r"\x2d-address=http://127.0.0.1:1@llm/h:1", "=1@llm/h:1"]
    run("models", "register", *twins)
    names = run("models", "list", "-o", "name").lines
    assert sorted(names) == sorted(twins)
    for gone, name in enumerate(names, start=1):
        run("models", "deregister", "--remove", name)
        assert run("models", "list", "-o", "name").lines == names[gone:]


def test_one_of_many_is_not_found(run: Run, controller: str) -> None:
    run("models", "register", REF)
    done = run("models", "deregister", "nix/h:1", REF, expect=4)
    assert done.out == f"{REF} deregistered\n"
    assert done.err == "ctl: nix@llm/h:1: not known to the controller; ctl models list shows what is\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("qwen/10.0.0.5:8001", REF),
        ("qwen2/10.0.0.4:8001", REF),
        ("QWEN/10.0.0.4:8001", REF),
        ("glm@text2vec/10.0.0.9:8001", r"glm\x5cx20@llm/10.0.0.9:8001"),
    ],
)
def test_who_names_nothing_is_told_what_is_near(run: Run, controller: str, typed: str, meant: str) -> None:
    run("models", "register", REF, r"glm\x5cx20/10.0.0.9:8001", "other/10.0.0.7:1")
    done = run("models", "deregister", typed, expect=4)
    assert done.err.endswith(f": not known to the controller; did you mean {meant}?\n")
    run("models", "deregister", meant)


def test_a_type_that_looks_like_another_is_remarked_upon(run: Run, controller: str) -> None:
    done = run("models", "register", "a@lmm/h:1", "b@LLM/h:1", "c@vision/h:1", "d@llm/h:1")
    assert len(done.lines) == 4
    assert done.err == (
        "ctl: warning: registering type LLM, which DB-GPT never uses; did you mean llm?\n"
        "ctl: warning: registering type lmm, which DB-GPT never uses; did you mean llm?\n"
    )
    assert run("models", "register", "a@lmm/h:1", "-q").err == ""


def test_one_list_call_for_all_that_is_not_found(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "answer", lambda path: (200, b"false" if "?" in path else b"[]"))
    run("models", "deregister", "a/h:1", "b/h:1", expect=4)
    assert [each.split()[0] for each in fake.requests] == ["DELETE", "GET", "DELETE"]


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_results_for_scripts(run: Run, controller: str, form: str, load: Any) -> None:
    run("models", "register", REF)
    done = run("models", "deregister", "nix/h:1", REF, "-o", form, expect=4)
    found, (failed, worked) = done.err, load(done.out)
    assert worked == {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001, "result": "deregistered"}
    assert (failed["model_name"], failed["result"], failed["error"]) == ("nix@llm", "failed", "not_found")
    assert failed["detail"] in found


def test_only_those_that_worked_are_named(run: Run, controller: str) -> None:
    run("models", "register", REF)
    assert run("models", "deregister", "nix/h:1", REF, "-o", "name", expect=4).out == f"{REF}\n"


def test_heartbeat_registers_what_is_unknown(run: Run, controller: str) -> None:
    assert run("models", "heartbeat", REF).out == f"{REF} heartbeat accepted\n"
    assert run("models", "list", "-o", "name").lines == [REF]


@pytest.mark.parametrize("loop", [[], ["--every", "10ms"]])
def test_a_heartbeat_of_a_deregistered_one_is_refused_and_says_what_to_do(
    run: Run, controller: str, loop: list[str]
) -> None:
    run("models", "register", REF)
    run("models", "deregister", REF)
    done = run("models", "heartbeat", REF, *loop, expect=6)
    assert done.out == ""
    assert done.err == (
        f"ctl: {REF}: heartbeat refused: the instance was deregistered; "
        f"register it again with: ctl models register {REF}\n"
    )


def test_the_advice_can_be_pasted_into_a_shell(run: Run, controller: str) -> None:
    run("models", "register", "a b; c/h:1")
    run("models", "deregister", "a b; c/h:1")
    assert run("models", "heartbeat", "a b; c/h:1", expect=6).err.endswith("ctl models register 'a b; c@llm/h:1'\n")


@pytest.mark.parametrize("verb", ["register", "deregister", "heartbeat"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((403, {"detail": "not you"}), 7),
        ((401, {"detail": "who?"}), 7),
        ((422, {"detail": "no such port"}), 6),
        ((429, {"detail": "full", "code": "registry_full"}), 6),
        ((500, {"detail": "oops"}), 1),
        ((503, {"detail": "database away"}), 3),
        ((200, "surprise"), 1),
    ],
)
def test_exit_codes(run: Run, fake: FakeController, verb: str, answer: tuple[int, Any], code: int) -> None:
    fake.status, fake.body = answer
    done = run("models", verb, REF, expect=code)
    assert done.out == ""
    assert done.err.startswith("ctl: ")
    assert done.err.count("\n") == 1
    if isinstance(fake.body, dict):
        assert fake.body["detail"] in done.err


def test_when_no_controller_answers_the_rest_is_not_tried(run: Run, fake: FakeController) -> None:
    fake.status, fake.body = 503, {"detail": "away"}
    done = run("models", "deregister", "a/h:1", "b/h:1", "c/h:1", "-o", "json", expect=3)
    assert len(fake.requests) == 1
    assert "ctl: 2 not tried: b@llm/h:1 and those after it\n" in done.err
    assert [each["result"] for each in json.loads(done.out)] == ["failed", "not tried", "not tried"]


def test_a_refusal_weighs_more_than_a_missing_one(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(200, b"false"), (200, b"[]"), (422, b'{"detail": "no"}'), (500, b"{}"), (200, b"true")])
    monkeypatch.setattr(fake, "answer", lambda _path: next(answers))
    done = run("models", "deregister", "a/h:1", "b/h:1", "c/h:1", "d/h:1", expect=6)
    assert done.out == "d@llm/h:1 deregistered\n"
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["ctl"] * 3
