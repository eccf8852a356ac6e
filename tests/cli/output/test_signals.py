"""Ctrl-C in real shells on a real terminal: it ends the script that runs `ctl`, silently; and what is left on it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from dbgpt_ctl.cli.output import signals
from dbgpt_ctl.cli.output.stdout import PipeClosed
from tests.cli.clusters import Cluster, cluster
from tests.support.ports import free_port
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator


REF = "qwen@llm/127.0.0.1:8001"
WATCH = (["models", "list", "--watch"], "qwen")
FOLLOWING = [
    WATCH,
    (["models", "list", "--watch", "-o", "name"], REF),
    (["models", "heartbeat", REF, "--every", "50ms"], "heartbeat accepted"),
    (["events", "-f"], "qwen"),
    (["wait", "qwen", "--for", "healthy>=9"], "waiting for healthy>=9 of qwen: 1 healthy"),
    (["wait", "qwen", "--for", "healthy>=9", "-v"], ": 200, "),
]
LOOPS = ["while :; do {}; done", "while :; do {} | cat; done", "while :; do true | {}; done"]


@pytest.fixture
def there() -> Iterator[Cluster]:
    with cluster() as found:
        found.come_to_now()
        found.register("qwen@llm")
        yield found


def in_bash(script: str, *args: str) -> pexpect.spawn[str]:
    """A script on a terminal; "$@" in it is `ctl` with these arguments."""
    env = environment({"TERM": "xterm-256color"})
    return pexpect.spawn("bash", ["-c", script, "-", *CTL, *args], env=env, encoding="utf-8", timeout=60)


def ends_by_ctrl_c(child: pexpect.spawn[str], ready: str) -> str:
    """What the terminal shows after Ctrl-C, until the shell has died by SIGINT."""
    try:
        child.expect_exact(ready)
        child.sendintr()
        shown = str(child.read())
        child.wait()
    finally:
        child.close(force=True)
    assert child.signalstatus == signal.SIGINT, shown
    return shown


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("args", "ready"), FOLLOWING, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_ctrl_c_ends_the_loop_that_runs_it(there: Cluster, loop: str, args: list[str], ready: str) -> None:
    shown = ends_by_ctrl_c(in_bash(loop.format('"$@"'), *args, "-a", there.url), ready)
    assert "Traceback" not in shown
    assert "ctl: " not in shown


@pytest.mark.parametrize("args", [["models", "list"], ["health"], ["doctor"], ["wait", "--controller"]], ids=" ".join)
def test_ctrl_c_does_not_wait_for_an_answer(args: list[str]) -> None:
    """Of two controllers that never answer: threads ask them at the same time."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        urls = ",".join(f"http://127.0.0.1:{server.getsockname()[1]}" for server in (one, two))
        child = in_bash('while :; do "$@"; done', *args, "--request-timeout", "1h", "-a", urls)
        try:
            connection, _ = one.accept()
            with connection:
                child.sendintr()
                shown = str(child.read())
                child.wait()
        finally:
            child.close(force=True)
    assert child.signalstatus == signal.SIGINT
    assert "Traceback" not in shown


def test_ctrl_c_ends_the_script_that_runs_a_controller() -> None:
    child = in_bash('"$@"; echo went on', "serve", "--port", str(free_port()))
    shown = ends_by_ctrl_c(child, "listening on")
    assert "stopped" in shown
    assert "went on" not in shown
    assert "Traceback" not in shown


def test_ctrl_c_while_it_starts_is_silent() -> None:
    """An import is interrupted, in which Python would print a traceback."""
    code = (
        "import os, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'dbgpt_ctl.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt)\n"
        "from dbgpt_ctl.__main__ import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment({}), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_cursor_below_the_table(there: Cluster, number: signal.Signals) -> None:
    args, ready = WATCH
    env = environment({"TERM": "xterm-256color"})
    child = pexpect.spawn(CTL[0], [*CTL[1:], *args, "-a", there.url], env=env, encoding="utf-8", timeout=60)
    try:
        child.expect_exact(ready)
        child.expect_exact("\x1b[J")
        child.kill(number)
        shown = str(child.read())
        child.wait()
    finally:
        child.close(force=True)
    assert child.signalstatus == number
    assert shown.endswith("\r\n")
    assert not re.search(r"Traceback|\x1b\[\?", shown)


def test_a_script_that_ignores_ctrl_c_is_not_ended(there: Cluster) -> None:
    """What the shell ignores, `ctl` ignores too."""
    args, ready = WATCH
    child = in_bash("trap '' INT; \"$@\"", *args, "-a", there.url)
    try:
        child.expect_exact(ready)
        child.sendintr()
        for _ in range(2):
            child.expect_exact("\x1b[J")
        assert child.isalive()
    finally:
        child.close(force=True)


@pytest.fixture(autouse=True)
def _signal_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


def stack(*files: str) -> Any:
    """Frames, the innermost first."""
    frame = None
    for file in reversed(files):
        frame = SimpleNamespace(f_code=SimpleNamespace(co_filename=file), f_back=frame)
    return frame


def test_an_import_is_not_cut_short() -> None:
    """It would leave its file open; the signal comes again."""
    signals._on_signal(signal.SIGPIPE, stack("abc.py", "<frozen importlib._bootstrap_external>", "following.py"))
    with pytest.raises(PipeClosed):
        signals._on_signal(signal.SIGPIPE, stack("socket.py", "following.py"))


def test_it_is_raised_once() -> None:
    with pytest.raises(PipeClosed):
        signals._on_signal(signal.SIGPIPE, None)
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
