"""`ctl assert`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.fake_controller import listed

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController
from typing import TYPE_CHECKING

from tests.support.fake_controller import FakeController

if TYPE_CHECKING:
    from tests.cli.conftest import Run

SOME = [
    listed("qwen@llm", port=1),
    listed("qwen@llm", port=2, enabled=False),
    listed("qwen@llm", port=3, healthy=False),
    listed("qwen@llm", port=4),
    listed("bge@text2vec", port=5),
]


def test_assert_says_what_there_is(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    assert run("assert", "qwen", "--min-healthy", "2").out == "qwen: 2 healthy, 1 unhealthy, 1 drained\n"
    assert run("assert", "bge@text2vec", "--max-age", "30s").out == "bge@text2vec: 1 healthy\n"
    done = run("assert", "qwen@llm", "--min-healthy", "3", "-o", "json", expect=5)
    assert json.loads(done.out) == {
        "name": "qwen@llm",
        "condition": "healthy>=3",
        "met": False,
        "counts": {"healthy": 2, "drained": 1, "unhealthy": 1},
    }
    assert done.err == "ctl: not healthy>=3 of qwen@llm: 2 healthy, 1 unhealthy, 1 drained\n"


def test_assert_of_an_age_that_is_too_high(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    done = run("assert", "bge", "--max-age", "5s", expect=5)
    assert done.err == "ctl: not healthy>=1 within 5s of bge: 1 healthy\n"
