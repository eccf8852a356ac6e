"""`ctl models deregister`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

REF = "qwen@llm/10.0.0.4:8001"


def stored(run: Run) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = json.loads(run("models", "list", "-o", "json").out)
    return objects


def test_deregister_keeps_and_remove_takes_away(run: Run, controller: str) -> None:
    run("models", "register", REF)
    assert run("models", "deregister", REF).out == f"{REF} deregistered\n"
    assert [each["healthy"] for each in stored(run)] == [False]
    assert run("models", "deregister", REF, "--remove").out == f"{REF} removed\n"
    assert stored(run) == []


def test_what_is_listed_by_name_is_taken_by_deregister(run: Run, controller: str) -> None:
    """Names may look like escapes, or hold slashes."""
    twins = ["q@llm/[::1]:1", r"\x5cx41@llm/h:1", "A@llm/h:1", "a/b:7@llm/h:1", "a@llm/h:1"]
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


def test_a_refusal_weighs_more_than_a_missing_one(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([(200, b"false"), (200, b"[]"), (422, b'{"detail": "no"}'), (500, b"{}"), (200, b"true")])
    monkeypatch.setattr(fake, "answer", lambda _path: next(answers))
    done = run("models", "deregister", "a/h:1", "b/h:1", "c/h:1", "d/h:1", expect=6)
    assert done.out == "d@llm/h:1 deregistered\n"
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["ctl"] * 3
