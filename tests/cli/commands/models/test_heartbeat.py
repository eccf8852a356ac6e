"""`ctl models heartbeat`, and its loop with a clock that the test controls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Run
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Run

from typing import TYPE_CHECKING

from dbgpt_ctl.cli.commands.models.heartbeat import repeat_heartbeats
from dbgpt_ctl.cli.output.stdout import OutputFormat
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import ControllerFailed, ControllerRefused, ControllerUnreachable, CtlError, NotAllowed

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = InstanceKey("a@llm", "h", 1), InstanceKey("b@llm", "h", 2)
DOWN = ControllerUnreachable("no controller answers")


class Time:
    """Stands still but for sleeps and for what a beat takes; Ctrl-C comes after `naps` sleeps."""

    def __init__(self, naps: int) -> None:
        self.now = 100.0
        self.naps = naps
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        if len(self.slept) == self.naps:
            raise KeyboardInterrupt
        self.slept.append(seconds)
        self.now += seconds


def beats(time: Time, answers: list[CtlError | None], *, takes: float = 0.0) -> Callable[[InstanceKey], str]:
    rest = iter(answers)

    def beat(key: InstanceKey) -> str:
        time.now += takes
        if error := next(rest, None):
            raise error
        return "heartbeat accepted"

    return beat


def loop(
    answers: list[CtlError | None],
    *,
    keys: tuple[InstanceKey, ...] = (A,),
    naps: int = 3,
    takes: float = 0.0,
    form: OutputFormat = OutputFormat.TEXT,
    quiet: bool = False,
) -> list[float]:
    time = Time(naps)
    beat = beats(time, answers, takes=takes)
    with pytest.raises(KeyboardInterrupt):
        repeat_heartbeats(keys, beat, form, interval=10, quiet=quiet, monotonic=time.monotonic, sleep=time.sleep)
    return time.slept


def test_it_beats_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert loop([]) == [10, 10, 10]
    assert capsys.readouterr() == ("a@llm/h:1 heartbeat accepted\n" * 4, "")


def test_the_duration_of_a_heartbeat_is_part_of_the_interval() -> None:
    assert loop([], takes=3) == [7, 7, 7]
    assert loop([], takes=25) == [0, 0, 0]


def test_quiet_prints_an_outage_and_not_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    loop([None, DOWN, DOWN, None], naps=5, quiet=True)
    assert capsys.readouterr().err == f"ctl: {DOWN}; trying again every 10s\n"


@pytest.mark.parametrize("down", [DOWN, ControllerFailed("500")])
def test_an_outage_is_printed_once_at_its_start_and_once_at_its_end(
    capsys: pytest.CaptureFixture[str], down: CtlError
) -> None:
    loop([None, down, down, down, None, down], naps=5)
    out, err = capsys.readouterr()
    assert out == "a@llm/h:1 heartbeat accepted\n" * 2
    assert err == (
        f"ctl: {down}; trying again every 10s\n"
        "ctl: the controller answers again, after 30s\n"
        f"ctl: {down}; trying again every 10s\n"
    )


def test_after_a_refusal_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    loop([ControllerRefused("deregistered")], keys=(A, B), naps=1)
    assert capsys.readouterr() == ("b@llm/h:2 heartbeat accepted\n" * 2, "ctl: a@llm/h:1: deregistered\n")


def test_when_all_are_refused_it_ends() -> None:
    time = Time(naps=9)
    refused = ControllerRefused("deregistered")
    beat = beats(time, [None, refused, refused])
    assert (
        repeat_heartbeats((A, B), beat, OutputFormat.TEXT, interval=1, monotonic=time.monotonic, sleep=time.sleep) == 6
    )
    assert time.slept == [1]


def test_waiting_does_not_help_against_wrong_credentials() -> None:
    time = Time(naps=9)
    with pytest.raises(NotAllowed):
        repeat_heartbeats(
            (A,),
            beats(time, [NotAllowed("no")]),
            OutputFormat.TEXT,
            interval=1,
            monotonic=time.monotonic,
            sleep=time.sleep,
        )


def test_a_json_line_per_beat(capsys: pytest.CaptureFixture[str]) -> None:
    loop([], keys=(A, B), naps=1, form=OutputFormat.JSON)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["model_name"] for each in lines] == ["a@llm", "b@llm"] * 2
    assert lines[0]["result"] == "heartbeat accepted"


REF = "qwen@llm/10.0.0.4:8001"


def test_heartbeat_registers_what_is_unknown(run: Run, controller: str) -> None:
    assert run("models", "heartbeat", REF).out == f"{REF} heartbeat accepted\n"
    assert run("models", "list", "-o", "name").lines == [REF]


@pytest.mark.parametrize("loop", [[], ["--every", "10ms"]])
def test_a_heartbeat_of_a_deregistered_instance_is_refused_with_advice(
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
