"""`ctl assert`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.clusters import stock_controller
from tests.cli.schemas import validated
from tests.support.fake_controller import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

SOME = [
    listed("qwen@llm", port=1),
    listed("qwen@llm", port=2, enabled=False),
    listed("qwen@llm", port=3, healthy=False),
    listed("qwen@llm", port=4),
    listed("bge@text2vec", port=5),
]


@pytest.fixture(autouse=True)
def stock(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DB-GPT's own controller, which every command finds."""
    with stock_controller(SOME) as controller:
        monkeypatch.setenv("CONTROLLER_ADDRESS", controller.url)
        yield


def test_assert_says_what_there_is(run: Run) -> None:
    assert run("assert", "qwen", "--min-healthy", "2").out == "qwen: 2 healthy, 1 unhealthy, 1 drained\n"
    assert run("assert", "bge@text2vec", "--max-age", "30s").out == "bge@text2vec: 1 healthy\n"
    done = run("assert", "qwen@llm", "--min-healthy", "3", "-o", "json", expect=5)
    assert validated("assert", json.loads(done.out)) == {
        "name": "qwen@llm",
        "condition": "healthy>=3",
        "met": False,
        "counts": {"healthy": 2, "drained": 1, "unhealthy": 1, "deregistered": 0, "unknown": 0},
        "stale_since": None,
        "held_until": None,
    }
    assert done.err == "ctl: not healthy>=3 of qwen@llm: 2 healthy, 1 unhealthy, 1 drained\n"


def test_assert_of_an_age_that_is_too_high(run: Run) -> None:
    done = run("assert", "bge", "--max-age", "5s", expect=5)
    assert done.err == "ctl: not healthy>=1 within 5s of bge: 1 healthy\n"


def test_a_model_that_was_never_registered(run: Run, controller: str) -> None:
    """The name of another type is suggested; so is one that looks like it."""
    run("models", "register", "qwen/10.0.0.4:8001", "bge/10.0.0.4:8002", "-a", controller)
    run("models", "deregister", "bge/10.0.0.4:8002", "--remove", "-a", controller)
    ends = {
        "qwen@reranker": "none; it was never registered; did you mean qwen@llm?\n",
        "qwem": "none; it was never registered; did you mean qwen@llm?\n",
        "bge": "none; it was registered before, and ctl events shows what became of it\n",
    }
    for name, end in ends.items():
        assert run("assert", name, "-a", controller, expect=5).err == f"ctl: not healthy>=1 of {name}: {end}"
