"""`ctl wait`, and the conditions that it shares with assert."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.commands.wait import ConditionCheck, poll
from dbgpt_ctl.errors import ControllerUnreachable
from tests.cli.clusters import stock_controller
from tests.cli.schemas import validated
from tests.support.fake_controller import listed
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

SOME = [
    listed("qwen@llm", port=1),
    listed("qwen@llm", port=2, enabled=False),
    listed("qwen@llm", port=3, healthy=False),
    listed("qwen@llm", port=4),
    listed("bge@text2vec", port=5),
]


@pytest.mark.parametrize(
    "args",
    [
        ("wait",),
        ("wait", "qwen", "--controller"),
        ("wait", "--controller", "--for", "healthy"),
        ("wait", "qwen", "--for", "fine"),
        ("wait", "qwen", "--timeout", "soon"),
        ("wait", "a@b@c"),
        ("assert",),
        ("assert", "qwen", "--min-healthy", "two"),
        ("assert", "qwen", "--max-age", "-1"),
    ],
)
def test_wrong_usage_is_2_and_sends_nothing(run: Run, fake: FakeController, args: tuple[str, ...]) -> None:
    run(*args, expect=2)
    assert fake.requests == []


def test_wait_until_a_worker_registers(controller: str) -> None:
    assert controller
    done = ctl("wait", "qwen", "--timeout", "300ms", "--every", "50ms", "-a", controller, expect=5)
    assert done.err == "ctl: qwen is not healthy>=1 after 0.3s: none\n"
    ctl("models", "register", "qwen/10.0.0.4:8001", "-a", controller)
    assert ctl("wait", "qwen", "-a", controller).out == "qwen: 1 healthy\n"
    assert ctl("wait", "qwen", "--for", "absent", "--timeout", "50ms", "-a", controller, expect=5).out == ""
    ctl("models", "deregister", "qwen/10.0.0.4:8001", "--remove", "-a", controller)
    assert ctl("wait", "qwen", "--for", "absent", "-a", controller).out == "qwen: none\n"


def test_wait_prints_the_last_counts_in_json_at_the_timeout(run: Run) -> None:
    with stock_controller(SOME) as stock:
        goal = ("--for", "healthy>=9", "--timeout", "1ms")
        done = run("wait", "qwen", *goal, "-o", "json", "-a", stock.url, expect=5)
    assert validated("wait", json.loads(done.out)) == {
        "name": "qwen",
        "condition": "healthy>=9",
        "met": False,
        "counts": {"healthy": 2, "drained": 1, "unhealthy": 1, "deregistered": 0, "unknown": 0},
        "stale_since": None,
        "held_until": None,
    }
    assert done.err == "ctl: qwen is not healthy>=9 after 0.001s: 2 healthy, 1 unhealthy, 1 drained\n"


def test_wait_for_a_controller(run: Run, fake: FakeController) -> None:
    assert run("wait", "--controller").out == f"controller: {fake.url}: ok\n"
    fake.health = 503
    done = run("wait", "--controller", "--timeout", "50ms", "--every", "10ms", expect=5)
    assert "leaving" in done.err


def test_wait_goes_on_over_an_outage_and_ends_as_unreachable() -> None:
    done = ctl("wait", "qwen", "-a", "http://127.0.0.1:1", "--timeout", "200ms", "--every", "50ms", expect=3)
    assert done.err.count("still waiting") == 1
    assert done.out == ""


class Time:
    """Passes only in sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def looks(*results: Any) -> Callable[[], ConditionCheck]:
    left = iter(results)

    def look() -> ConditionCheck:
        result = next(left)
        if isinstance(result, Exception):
            raise result
        return ConditionCheck("qwen", "healthy>=1", result, "none", {})

    return look


def test_it_checks_at_once_and_then_at_intervals() -> None:
    time = Time()
    poll(looks(False, False, True), 60, 2, say=print, monotonic=time.monotonic, sleep=time.sleep)
    assert time.slept == [2, 2]


def test_it_checks_once_more_at_the_timeout() -> None:
    time = Time()
    found = poll(looks(*[False] * 4), 5, 2, say=print, monotonic=time.monotonic, sleep=time.sleep)
    assert not found.met
    assert time.slept == [2, 2, 1]


def test_an_outage_in_between_is_no_failure() -> None:
    time = Time()
    outage = ControllerUnreachable("away")
    poll(looks(False, outage, outage, True), 60, 1, say=print, monotonic=time.monotonic, sleep=time.sleep)
    with pytest.raises(ControllerUnreachable):
        poll(looks(outage, outage), 1, 1, say=print, monotonic=time.monotonic, sleep=time.sleep)


REF = "qwen@llm/10.0.0.4:8001"


def test_json_of_wait_assert_and_health_keeps_to_its_schema(run: Run, controller: str) -> None:
    run("models", "register", REF)
    validated("wait", json.loads(run("wait", "qwen", "-o", "json").out))
    validated("wait", json.loads(run("wait", "--controller", "-o", "json").out))
    validated("assert", json.loads(run("assert", "qwen", "--min-healthy", "2", "-o", "json", expect=5).out))
    both = run("health", "-o", "json", "-a", f"{controller},http://127.0.0.1:1")
    validated("health", json.loads(both.out))


def test_deregistered_is_a_state_of_its_own_and_not_absent(run: Run, controller: str) -> None:
    """Nor unhealthy, for which somebody would be called."""
    run("models", "register", REF, "qwen/10.0.0.5:8001")
    run("models", "deregister", REF)
    assert run("wait", "qwen", "--for", "deregistered>=1").out == "qwen: 1 healthy, 1 deregistered\n"
    assert run("wait", "qwen", "--for", "unhealthy=0").out == "qwen: 1 healthy, 1 deregistered\n"
    assert run("assert", "qwen", "--min-healthy", "2", expect=5).out == "qwen: 1 healthy, 1 deregistered\n"
    run("models", "deregister", "qwen/10.0.0.5:8001", "--remove")
    done = run("wait", "qwen", "--for", "absent", "--timeout", "1ms", expect=5)
    assert done.err == "ctl: qwen is not absent after 0.001s: 1 deregistered\n"
    run("models", "deregister", REF, "--remove")
    assert run("wait", "qwen", "--for", "absent").out == "qwen: none\n"


def test_dbgpts_own_controller_does_not_report_deregistered_ones(run: Run, fake: FakeController) -> None:
    fake.body = SOME
    assert "/api/v1/instances" in run("wait", "qwen", "--for", "deregistered", "--timeout", "1ms", expect=6).err
    assert run("wait", "qwen", "--for", "healthy").out.startswith("qwen: ")
