"""The line that says what `ctl wait` waits for: on a real terminal, and its texts at given times."""

from __future__ import annotations

import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pexpect
import pytest

from dbgpt_ctl.cli.output.status_line import CLEARED, Progress
from dbgpt_ctl.cli.output.table import cell_width
from tests.cli.clusters import stock_controller
from tests.support.fake_controller import FakeController, listed
from tests.support.process import CTL, ctl, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

SOME = [listed("qwen@llm"), listed("qwen@llm", port=2, healthy=False)]
LINE = "waiting for healthy>=2 of qwen@llm: "


@pytest.fixture
def stock() -> Iterator[FakeController]:
    with stock_controller(SOME) as controller:
        yield controller


@contextmanager
def waiting(
    *args: str, name: str = "qwen@llm", columns: int = 120, term: str = "xterm-256color"
) -> Iterator[pexpect.spawn[str]]:
    child = pexpect.spawn(
        CTL[0],
        [*CTL[1:], "wait", name, "--for", "healthy>=2", "--every", "20ms", *args],
        env=environment({"TERM": term}),
        dimensions=(24, columns),
        encoding="utf-8",
        timeout=60,
    )
    try:
        yield child
    finally:
        child.close(force=True)


def visible(shown: str) -> list[str]:
    """What is on the terminal after these bytes: the lines, without what was drawn over."""
    return [line.rpartition(CLEARED)[2] for line in shown.replace("\r\n", "\n").split("\n")]


def test_a_terminal_shows_what_is_waited_for_until_it_is_there(stock: FakeController) -> None:
    with waiting("-a", stock.url) as child:
        child.expect_exact(f"{CLEARED}{LINE}1 healthy, 1 unhealthy; 0s of 5m")
        child.expect_exact("1s of 5m")
        stock.body = [listed("qwen@llm"), listed("qwen@llm", port=2)]
        rest = child.read()
        assert child.wait() == 0
    assert visible(rest)[-2:] == ["qwen@llm: 2 healthy", ""]


def test_a_message_stands_above_the_line(stock: FakeController) -> None:
    with waiting("-a", stock.url) as child:
        child.expect_exact("1 unhealthy; 0s")
        stock.status = 503
        child.expect_exact("\r\n")
        (_, message) = str(child.before).rsplit(CLEARED, 1)
        assert message.startswith(f"ctl: no controller can serve now: {stock.url}: 503")
        child.expect_exact(f"{CLEARED}{LINE}not known; ")
        stock.status = 200
        child.expect_exact(f"{LINE}1 healthy, 1 unhealthy; ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_clear_line(stock: FakeController, number: signal.Signals) -> None:
    with waiting("-a", stock.url) as child:
        child.expect_exact("1 unhealthy")
        child.kill(number)
        rest = child.read()
        child.wait()
    assert child.signalstatus == number
    assert rest.endswith(CLEARED)
    assert "ctl: " not in rest


@pytest.mark.parametrize(("option", "term"), [("-q", "xterm"), ("-v", "xterm"), ("--allow-stale", "dumb")])
def test_no_line_where_it_is_not_wanted(stock: FakeController, option: str, term: str) -> None:
    with waiting("-a", stock.url, "--timeout", "100ms", option, term=term) as child:
        shown = child.read()
        assert child.wait() == 5
    assert "waiting for" not in shown
    assert "\x1b" not in shown


def test_a_pipe_gets_the_messages_only(stock: FakeController) -> None:
    done = ctl("wait", "qwen@llm", "--for", "healthy>=2", "--timeout", "50ms", "-a", stock.url, expect=5)
    assert done.err == "ctl: qwen@llm is not healthy>=2 after 0.05s: 1 healthy, 1 unhealthy\n"


@pytest.mark.parametrize("name", ["qwen" * 12, "深度" * 12])
def test_a_line_is_cut_before_the_terminal_wraps_it(stock: FakeController, name: str) -> None:
    """The width counts, of which a Chinese character takes two cells."""
    with waiting("-a", stock.url, name=name, columns=40) as child:
        child.expect_exact(CLEARED)
        child.expect_exact(CLEARED)
        (line,) = re.findall(r"waiting[^\r]*", str(child.before))
    assert cell_width(line) in {38, 39}
    assert line.endswith("…")


class Time:
    """Passes only in sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_time_moves_once_a_second_between_two_checks(capsys: pytest.CaptureFixture[str]) -> None:
    time, drawn = Time(), list[str]()
    progress = Progress(drawn.append, "2 of x", 300, monotonic=time.monotonic, sleep=time.sleep)
    progress.state = "1 healthy"
    progress.sleep(2.5)
    assert drawn == [
        "waiting for 2 of x: asking; 0s of 5m",
        *(f"waiting for 2 of x: 1 healthy; {second}s of 5m" for second in range(3)),
    ]
    assert time.now == 2.5
    progress.say("away")
    assert drawn[4:] == ["", "waiting for 2 of x: 1 healthy; 2s of 5m"]
    assert capsys.readouterr().err == "ctl: away\n"
