"""`ctl models prune`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.cli.schemas import validated

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

REF = "qwen@llm/10.0.0.4:8001"
TWIN = "qwen@llm/10.0.0.5:8001"


def test_prune_forgets_what_is_long_gone(run: Run, controller: str) -> None:
    run("models", "register", REF, TWIN)
    run("models", "deregister", REF)
    assert run("models", "prune", "--older-than", "1h", "--yes").out == ""
    assert run("models", "prune", "--older-than", ".001ms", "--dry-run").out == f"{REF} would be removed\n"
    done = run("models", "prune", "--older-than", ".001ms", "-o", "json", "-y")
    (told,) = validated("models-prune", json.loads(done.out))
    assert (told["result"], told["host"]) == ("removed", "10.0.0.4")
    assert run("models", "list", "-o", "name").lines == [TWIN]


def test_nothing_to_prune_is_no_failure(run: Run, controller: str) -> None:
    done = run("models", "prune", "--older-than", "7d", "-o", "json", "-y")
    assert validated("models-prune", json.loads(done.out)) == []
    assert done.err == "ctl: no instance has been unhealthy or deregistered for longer than 7d\n"


def test_unchecked_instances_go_only_where_that_is_asked_for(run: Run, controller: str) -> None:
    run("models", "register", REF, "--no-check-healthy")
    assert json.loads(run("status", "-o", "json").out)["models"][0]["unchecked"] == 1
    assert "1 healthy; 1 unchecked" in run("status").out
    done = run("models", "prune", "--older-than", "7d", "--unchecked", "-y")
    assert done.err == "ctl: no instance has been unhealthy, deregistered or unchecked and silent for longer than 7d\n"


def test_what_a_stranger_registered_is_escaped(run: Run, fake: FakeController) -> None:
    key = {"model_name": "a\x1b[31m@llm", "host": "h\n", "port": 1}
    fake.body = {"version": 1, "dry_run": False, "instances": [key]}
    assert run("models", "prune", "--older-than", "7d", "-y").out == "a\\x1b[31m@llm/h\\x0a:1 removed\n"
