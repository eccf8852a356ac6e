from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.output.order import SORT_KEYS
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from tests.cli.schemas import validated
from tests.support.fake_controller import FakeController, listed

if TYPE_CHECKING:
    from tests.cli.conftest import Run

SOME = [
    listed("bge@text2vec", "10.0.0.10", 1, enabled=False, weight=2.5),
    listed("qwen@llm", "10.0.0.9", 2),
    listed("qwen@reranker", "10.0.0.10", 3, healthy=False, last_heartbeat="2026-01-02T10:00:00+00:00", weight=None),
]


@pytest.fixture
def stock(fake: FakeController, monkeypatch: pytest.MonkeyPatch) -> FakeController:
    """DB-GPT's own controller: it has no /api/v1."""
    whole = fake.answer
    fake.body = SOME

    def answer(path: str) -> tuple[int, bytes]:
        return (404, b'{"detail":"Not Found"}') if path.startswith("/api/v1") else whole(path)

    monkeypatch.setattr(fake, "answer", answer)
    return fake


def ports(run: Run, *args: str) -> list[int]:
    return [
        each["port"] for each in validated("models-list", json.loads(run("models", "list", *args, "-o", "json").out))
    ]


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["--state", "healthy"], [1, 2]),
        (["--state", "drained"], [1]),
        (["--state", "unhealthy"], [3]),
        (["--state", "drained,healthy"], [1, 2]),
        (["--state", "drained", "--state", "UNHEALTHY"], [1, 3]),
        (["--host", "10.0.0.10"], [1, 3]),
        (["--host", "10.0.0.1"], []),
        (["qwen", "--host", "10.0.0.10", "--state", "unhealthy"], [3]),
    ],
)
def test_filters_work_against_dbgpts_own_controller(
    run: Run, stock: FakeController, args: list[str], found: list[int]
) -> None:
    stock.body = [each | {"weight": 1.0} for each in SOME]
    assert ports(run, *args) == found


def test_deregistered_and_unhealthy_need_all_facts(run: Run, stock: FakeController) -> None:
    err = run("models", "list", "--state", "deregistered", expect=6).err
    assert err.count("\n") == 1
    assert "has no /api/v1" in err


def test_what_is_deregistered_is_not_unhealthy(run: Run, controller: str) -> None:
    run("models", "register", "a/10.0.0.4:1", "b/10.0.0.4:2")
    run("models", "deregister", "b/10.0.0.4:2")
    assert ports(run, "--state", "deregistered") == [2]
    assert ports(run, "--state", "unhealthy") == []
    assert "deregistered" in run("models", "list", "--state", "deregistered").out


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("name", [1, 2, 3]),
        ("type", [2, 3, 1]),
        ("host", [2, 1, 3]),
        ("port", [1, 2, 3]),
        ("state", [3, 1, 2]),
        ("beat", [3, 1, 2]),
        ("weight", [3, 2, 1]),
    ],
)
def test_sort_by(run: Run, fake: FakeController, by: str, order: list[int]) -> None:
    fake.body = SOME
    lines = run("models", "list", "--sort-by", by, "--no-headers").lines
    assert [int(line.split()[3]) for line in lines] == order
    assert [each["port"] for each in json.loads(run("models", "list", "--sort-by", by, "-o", "json").out)] == order


def test_the_worst_state_comes_first_and_planned_work_after_it() -> None:
    drain = DrainFacts()
    instances = [
        KnownInstance("a@llm", "h", port, state=state, drain=drained)
        for port, (state, drained) in enumerate(product(InstanceState, (drain, None)))
    ]
    found = [(each.state.value, each.drain is not None) for each in sorted(instances, key=SORT_KEYS["state"])]
    assert found == [
        ("unhealthy", False),
        ("unhealthy", True),
        ("deregistered", False),
        ("deregistered", True),
        ("healthy", True),
        ("healthy", False),
    ]


def test_sorting_is_stable_and_takes_whatever_a_controller_sends() -> None:
    odd: list[Any] = [None, "x", 1.0, -1]
    some = [KnownInstance("a@llm", f"h{n}", n, weight=each) for n, each in enumerate(odd)]
    assert [each.port for each in sorted(some, key=SORT_KEYS["weight"])] == [0, 1, 3, 2]
    assert [each.port for each in sorted(some, key=SORT_KEYS["name"])] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--state", "drained", "qwen"], "none of the 2 instances of qwen at {url} is drained"),
        (["--host", "h"], "no instances on host h registered at {url}; registered hosts are 10.0.0.10, 10.0.0.9"),
        (["--state", "drained", "--healthy-only"], "none of the 3 instances at {url} is drained and gets requests"),
    ],
)
def test_the_text_of_a_filter(run: Run, stock: FakeController, args: list[str], said: str) -> None:
    assert run("models", "list", *args).err == f"ctl: {said.format(url=stock.url)}\n"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--state", "ill"], "'ill'"),
        (["--state", "healthy,"], "''"),
        (["--host", "http://h"], "http://h"),
        (["--sort-by", "age"], "age"),
        (["--every", "2s"], "--every"),
        (["--watch", "-o", "yaml"], "yaml"),
        (["--watch", "--every", "0"], "'0'"),
    ],
)
def test_wrong_usage(run: Run, fake: FakeController, args: list[str], named: str) -> None:
    done = run("models", "list", *args, expect=2)
    assert named in done.err
    assert done.err.count("\n") == 1
    assert fake.requests == []
