"""`ctl models list --watch` on a real terminal."""

from __future__ import annotations

import re
import signal
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pexpect
import pytest

from dbgpt_ctl.cli.watch.screen import packed
from dbgpt_ctl.domain.instance import InstanceKey
from tests.cli.clusters import Cluster, cluster, stock_controller
from tests.support.fake_controller import listed
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator


KEY = InstanceKey("qwen@llm", "127.0.0.1", 8001)
WATCH = ["models", "list", "--watch"]


@pytest.fixture
def there() -> Iterator[Cluster]:
    with cluster() as found:
        found.come_to_now()
        found.register("qwen@llm")
        yield found


@contextmanager
def terminal(*args: str, rows: int = 10, columns: int = 100, **env: str) -> Iterator[pexpect.spawn[str]]:
    """A shell's terminal, in which the watch runs."""
    child = pexpect.spawn(
        CTL[0],
        [*CTL[1:], *WATCH, *args],
        env=environment({"TERM": "xterm-256color", **env}),
        dimensions=(rows, columns),
        encoding="utf-8",
        timeout=60,
    )
    try:
        yield child
    finally:
        child.close(force=True)


def frame(child: pexpect.spawn[str]) -> list[str]:
    """The next whole screen, without colours."""
    child.expect_exact("\x1b[H")
    child.expect_exact("\x1b[J")
    text = re.sub(r"\x1b\[[0-9;]*[mK]", "", str(child.before))
    return text.splitlines()


def frame_with(child: pexpect.spawn[str], text: str) -> list[str]:
    """The first screen that holds the text."""
    while True:
        lines = frame(child)
        if any(text in line for line in lines):
            return lines


def test_a_terminal_is_drawn_anew_at_a_change(there: Cluster) -> None:
    """At once: the next list would come in an hour."""
    with terminal("-a", there.url, "--every", "1h") as child:
        lines = frame_with(child, "1 healthy")
        assert lines[0].endswith(f"at {there.url}")
        there.client.drain(KEY)
        frame_with(child, "1 drained")
        there.client.deregister(KEY)
        assert any("deregistered" in line and "qwen" in line for line in frame_with(child, "1 deregistered"))


def test_ages_move(there: Cluster) -> None:
    with terminal("-a", there.url, "--every", "1h") as child:
        ages: set[str] = set()
        while len(ages) < 3:
            ages |= set(re.findall(r"(\d+)s ago", "\n".join(frame(child))))


def test_a_screen_shows_the_rows_that_fit_and_the_number_of_others(there: Cluster) -> None:
    for number in range(60):
        there.register(f"m{number:02}@llm", port=number + 1)
    with terminal("-a", there.url, rows=10) as child:
        lines = frame_with(child, "61 healthy")
        assert len(lines) <= 9
        assert re.fullmatch(r"and \d+ more", lines[-1])
        assert sum("m0" in line for line in lines) + int(lines[-1].split()[1]) == 61


def test_a_terminal_whose_size_changes_is_filled_anew(there: Cluster) -> None:
    for number in range(60):
        there.register(f"m{number:02}@llm", port=number + 1)
    with terminal("-a", there.url, "--every", "1h", rows=10, columns=100) as child:
        frame_with(child, "61 healthy")
        child.setwinsize(30, 60)
        lines = frame_with(child, "m15")
        assert max(map(len, lines)) <= 60
        assert 20 < len(lines) <= 29


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}])
def test_ctrl_c_leaves_the_terminal_as_it_was(there: Cluster, env: dict[str, str]) -> None:
    script = 'before=$(stty -g); trap \'[ "$before" = "$(stty -g)" ] && echo "as before"\' EXIT; "$@"; echo "went on"'
    command = ["-c", script, "-", *CTL, *WATCH, "-a", there.url]
    child = pexpect.spawn(
        "bash", command, env=environment({"TERM": "xterm-256color", **env}), encoding="utf-8", timeout=60
    )
    try:
        frame_with(child, "1 healthy")
        before, shown = str(child.before), frame(child)
        child.sendintr()
        rest = child.read()
        child.wait()
    finally:
        child.close(force=True)
    assert child.signalstatus == signal.SIGINT
    assert "Traceback" not in rest
    assert "\x1b[?" not in before + "".join(shown) + rest, "a mode that is switched might be left behind"
    assert rest.split()[-2:] == ["as", "before"]


def test_the_modes_of_the_terminal_are_never_touched(there: Cluster) -> None:
    child = pexpect.spawn(
        CTL[0], [*CTL[1:], *WATCH, "-a", there.url], env=environment({"TERM": "xterm"}), encoding="utf-8", timeout=60
    )
    try:
        before = termios.tcgetattr(child.child_fd)
        frame_with(child, "1 healthy")
        assert termios.tcgetattr(child.child_fd) == before
        child.kill(signal.SIGKILL)
        child.wait()
        assert termios.tcgetattr(child.child_fd) == before
    finally:
        child.close(force=True)


def test_an_outage_stands_on_the_screen() -> None:
    with stock_controller([listed("a@llm")]) as fake, terminal("-a", fake.url, "--every", "50ms") as child:
        frame_with(child, "1 healthy")
        fake.status = 503
        lines = frame_with(child, "no answer")
        assert any("10.0.0.4" in line for line in lines), "what it held last is still there"
        fake.status = 200
        while any("no answer" in line for line in frame(child)):
            pass


def test_the_header_counts_a_drain_beside_the_state_and_cuts_no_url(there: Cluster) -> None:
    there.register("qwen@llm", port=2)
    there.client.drain(KEY)
    with terminal("-a", there.url, "--state", "drained,healthy", columns=80) as child:
        first, second, *_ = frame_with(child, "2 healthy (1 drained)")
    assert first.endswith(f"  2 healthy (1 drained)  at {there.url}")
    assert second == "only instances that are drained or healthy"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [(7, ["a  bb", "cccc"]), (11, ["a  bb  cccc"]), (3, ["a", "bb", "cccc"]), (1, ["a", "bb", "cccc"])],
)
def test_parts_are_packed_whole(columns: int, lines: list[str]) -> None:
    assert packed(["a", "bb", "", "cccc"], columns) == lines
