"""`ctl diff`. What it shares with apply is in test_apply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cli.schemas import validated

if TYPE_CHECKING:
    from tests.cli.conftest import Run

FIRST, SECOND = "qwen@llm/10.0.0.4:8001", "qwen@llm/10.0.0.5:8001"


def one(**facts: Any) -> dict[str, Any]:
    return {"model": "qwen", "host": "10.0.0.4", "port": 8001, **facts}


def file(*entries: dict[str, Any]) -> str:
    """A file in the folder of the test; its name."""
    Path("f.json").write_text(json.dumps({"instances": entries}))
    return "f.json"


def stored(run: Run) -> dict[int, dict[str, Any]]:
    """What is listed, by the last number of the host."""
    return {int(each["host"][-1]): each for each in json.loads(run("models", "list", "-o", "json").out)}


def test_diff_is_0_when_all_is_as_declared(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    done = run("diff", "-f", file(one(weight=1, enabled=True)))
    assert (done.out, done.err) == ("", "")
    assert json.loads(run("diff", "-f", file(one()), "-o", "json").out) == {
        "version": 1,
        "stale_since": None,
        "held_until": None,
        "differences": [],
    }


def test_a_deregistered_instance_always_differs(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    run("models", "deregister", FIRST)
    done = run("diff", "-f", file(one()), expect=5)
    assert done.out == f"~ {FIRST} state deregistered -> registered\n"
    assert done.err.endswith(f"; when its worker runs: ctl models register {FIRST}\n")


def test_a_drained_instance_differs_only_if_the_file_states_it(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    run("models", "drain", FIRST, "--force", "--reason", "disk")
    run("diff", "-f", file(one()))
    run("diff", "-f", file(one(enabled=False)))
    run("diff", "-f", file(one(drain={"reason": "disk"})))
    assert run("diff", "-f", file(one(drain=None)), expect=5).out == f"~ {FIRST} enabled false -> true\n"
    done = run("diff", "-f", file(one(drain={"reason": "memory"})), expect=5)
    assert done.out == f"~ {FIRST} drain_reason 'disk' -> 'memory'\n"


def test_diff_is_5_and_shows_what_differs(run: Run, controller: str) -> None:
    run("models", "register", FIRST, "qwen/10.0.0.6:8001")
    name = file(one(enabled=False, check_healthy=False), one(host="10.0.0.5", weight=2))
    before = stored(run)
    done = run("diff", "--prune", "-f", name, expect=5)
    assert done.lines == [
        f"~ {FIRST} enabled true -> false, check_healthy true -> false",
        f"+ {SECOND} weight 2",
        "- qwen@llm/10.0.0.6:8001",
    ]
    assert f"ctl: {FIRST}: check_healthy of a registered instance cannot be changed" in done.err
    told = validated("diff", json.loads(run("diff", "--prune", "-f", name, "-o", "json", expect=5).out))["differences"]
    assert [each["action"] for each in told] == ["change", "create", "prune"]
    assert told[0]["changes"] == [
        {"field": "enabled", "old": True, "new": False, "possible": True},
        {"field": "check_healthy", "old": True, "new": False, "possible": False},
    ]
    assert stored(run) == before
