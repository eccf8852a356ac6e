"""The question before a change, on real terminals, and `--yes` where there is none."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from dbgpt_ctl.client.sync import ControllerClient
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

HOSTS = [f"qwen@llm/10.0.0.{number}:8001" for number in range(1, 6)]
DRAIN = ("drain", "--model", "q*", "--force")
FIRST = f"{', '.join(HOSTS[:3])}, and 2 more"
QUESTIONS = {
    DRAIN: f"ctl: drain 5 instances: {FIRST}? [y/N] ",
    ("undrain", "--host", "10.0.0.1"): f"ctl: undrain 1 instance: {HOSTS[0]}? [y/N] ",
    ("deregister", "--state", "healthy", "--force"): f"ctl: deregister 5 instances: {FIRST}? [y/N] ",
    ("deregister", "--model", "qwen", "--force", "--remove"): f"ctl: deregister and remove 5 instances: {FIRST}? ",
    ("prune", "--older-than", "0.001ms"): "ctl: remove 1 instance: gone@llm/h:1? [y/N] ",
}
NOTHING = "ctl: not confirmed: nothing was changed"


@pytest.fixture
def filled(run: Run, controller: str) -> str:
    run("models", "register", *HOSTS, "gone/h:1", "-q")
    run("models", "deregister", "gone/h:1", "-q")
    return controller


def state(url: str) -> list[tuple[str, str, bool]]:
    with ControllerClient(url) as client:
        return [(each.host, each.state, each.drain is not None) for each in client.instances().instances]


@pytest.fixture
def spawn(filled: str) -> Iterator[Any]:
    """Runs `ctl models ...` on a terminal of its own."""
    children: list[Any] = []

    def start(*args: str) -> Any:
        env = environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled})
        child = pexpect.spawn(
            CTL[0], [*CTL[1:], "models", *args], env=env, dimensions=(24, 200), encoding="utf-8", timeout=20
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def ended(child: Any) -> int | None:
    """The exit code; of a child that a signal ended, the number of the signal below zero."""
    child.expect(pexpect.EOF)
    child.close()
    code: int | None = -child.signalstatus if child.signalstatus else child.exitstatus
    return code


@pytest.mark.parametrize(("args", "answer"), list(zip(QUESTIONS, ["y", "Y", "YES", " yes ", "yes"], strict=True)))
def test_yes_changes(spawn: Any, filled: str, args: tuple[str, ...], answer: str) -> None:
    before = state(filled)
    child = spawn(*args)
    child.expect_exact(QUESTIONS[args])
    assert state(filled) == before
    child.sendline(answer)
    assert ended(child) == 0
    assert (state(filled) != before) == (args[0] != "undrain")


@pytest.mark.parametrize(
    ("args", "answer"), [*zip(QUESTIONS, ["", "n", "yy", "ye", "ja"], strict=True), (DRAIN, "x" * 999)]
)
def test_anything_else_changes_nothing(spawn: Any, filled: str, args: tuple[str, ...], answer: str) -> None:
    before = state(filled)
    child = spawn(*args)
    child.expect_exact(QUESTIONS[args])
    child.sendline(answer)
    child.expect_exact(NOTHING)
    assert ended(child) == 1
    assert state(filled) == before


@pytest.mark.parametrize(("key", "shown", "code"), [("sendeof", f"\r\n{NOTHING}", 1), ("sendintr", "", -2)])
def test_the_end_of_the_input_and_ctrl_c_change_nothing(
    spawn: Any, filled: str, key: str, shown: str, code: int
) -> None:
    before = state(filled)
    child = spawn(*DRAIN)
    child.expect_exact(QUESTIONS[DRAIN])
    getattr(child, key)()
    if shown:
        child.expect_exact(shown)
    assert ended(child) == code
    assert state(filled) == before


def test_quiet_asks_too(spawn: Any) -> None:
    child = spawn(*DRAIN, "-q")
    child.expect_exact(QUESTIONS[DRAIN])


@pytest.mark.parametrize(
    "args",
    [
        ("drain", *HOSTS, "--force"),
        ("drain", "--all", "--force", "--yes"),
        ("drain", "--all", "--force", "--dry-run"),
        ("prune", "--older-than", ".001ms", "--dry-run"),
        ("prune", "--older-than", "7d"),
        ("prune", "--older-than", ".001ms", "-y"),
        ("heartbeat", "--all"),
        ("get", "--all"),
    ],
)
def test_what_does_not_ask(spawn: Any, args: tuple[str, ...]) -> None:
    child = spawn(*args)
    assert ended(child) in (0, 6)  # a heartbeat of the deregistered one is refused
    assert "[y/N]" not in child.before


def test_a_refusal_comes_before_the_question(spawn: Any) -> None:
    child = spawn("drain", "--model", "q*")
    assert ended(child) == 2
    assert "[y/N]" not in child.before
    assert "--force" in child.before


@pytest.mark.parametrize(
    "args", [("drain", "--all"), ("deregister", "--all"), ("undrain", "--host", "h"), ("prune", "--older-than", "7d")]
)
def test_without_a_terminal_yes_is_required_before_anything_is_sent(
    run: Run, fake: FakeController, args: tuple[str, ...]
) -> None:
    done = run("models", *args, expect=2)
    assert done.err.count("\n") == 1
    assert "there is no terminal to ask on before these changes: give --yes to " in done.err
    assert fake.requests == []


@pytest.mark.parametrize("redirected", ["</dev/null", "2>/dev/null", "2>&1 | cat"])
def test_both_ends_have_to_be_terminals(filled: str, redirected: str) -> None:
    before = state(filled)
    line = f"{' '.join(CTL)} models drain --all --force {redirected}; echo over"
    env = environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled})
    child: Any = pexpect.spawn("sh", ["-c", line], env=env, encoding="utf-8", timeout=20)
    child.expect_exact("over")
    assert "[y/N]" not in child.before
    assert state(filled) == before
    child.close()


def test_output_in_a_pipe_still_asks(filled: str) -> None:
    line = f"{' '.join(CTL)} models drain --all --force -o name | sort"
    env = environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled})
    child: Any = pexpect.spawn("sh", ["-c", line], env=env, encoding="utf-8", timeout=20)
    child.expect_exact("[y/N] ")
    child.sendline("y")
    child.expect_exact(HOSTS[-1])
    child.close()


def test_closed_streams_are_no_terminal(filled: str) -> None:
    line = f"{' '.join(CTL)} models drain --all --force <&- 2>&-"
    env = environment({"CONTROLLER_ADDRESS": filled})
    assert subprocess.run(["sh", "-c", line], env=env, capture_output=True, check=False).returncode == 2
