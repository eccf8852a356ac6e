"""`ctl models register`: against a real controller, and against ones that fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.schemas import validated

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

from typing import TYPE_CHECKING

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


def test_every_spelling_of_an_ipv6_address_is_the_same_instance(run: Run, controller: str) -> None:
    reference = "qwen@llm/[fe80::1]:8001"
    apart = ["qwen", "--host", "FE80::1", "--port", "8001"]
    assert run("models", "register", "--weight", "2", *apart).out == f"{reference} registered\n"
    assert run("models", "heartbeat", "qwen/[FE80:0::1]:8001").out == f"{reference} heartbeat accepted\n"
    assert run("models", "drain", "--host", "fe80::1", "--yes", "--force").out == f"{reference} drained\n"
    assert run("models", "list", "--host", "fe80::0001", "-o", "name").lines == [reference]
    assert [(each["host"], each["weight"], each["enabled"]) for each in stored(run)] == [("[fe80::1]", 2.0, False)]
    assert run("models", "deregister", *apart, "--remove").out == f"{reference} removed\n"


def test_a_type_that_looks_like_another_gets_a_warning(run: Run, controller: str) -> None:
    done = run("models", "register", "a@lmm/h:1", "b@LLM/h:1", "c@vision/h:1", "d@llm/h:1")
    assert len(done.lines) == 4
    assert done.err == (
        "ctl: warning: registering type LLM, which DB-GPT never uses; did you mean llm?\n"
        "ctl: warning: registering type lmm, which DB-GPT never uses; did you mean llm?\n"
    )
    assert run("models", "register", "a@lmm/h:1", "-q").err == ""


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
        ((200, "surprise"), 3),
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


def test_json_of_register_deregister_and_heartbeat_keeps_to_its_schema(run: Run, controller: str) -> None:
    for verb in ("register", "heartbeat", "deregister"):
        validated(f"models-{verb}", json.loads(run("models", verb, REF, "-o", "json").out))
    done = run("models", "deregister", "nix/h:1", "-o", "json", expect=4)
    validated("models-deregister", json.loads(done.out))
