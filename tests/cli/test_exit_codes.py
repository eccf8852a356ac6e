"""The exit code of every command where no controller can be used, as docs/exit-codes.md says it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fake_controller import fake_controller
from tests.support.process import ROOT
from tests.support.verbs import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Run

REF = "qwen/10.0.0.4:8001"
SHORT = ("--timeout", "30ms", "--every", "10ms")
LINES: list[tuple[str, ...]] = [
    ("models", "list"),
    ("models", "list", "--watch"),
    ("models", "get", REF),
    ("models", "register", REF),
    ("models", "deregister", REF),
    ("models", "heartbeat", REF),
    ("models", "drain", REF),
    ("models", "drain", "--host", "10.0.0.4", "--wait", "-y"),
    ("models", "undrain", REF),
    ("models", "ping", "--all"),
    ("models", "prune", "--older-than", "7d", "-y"),
    ("export",),
    ("apply", "-f", "instances.yaml"),
    ("diff", "-f", "instances.yaml"),
    ("status",),
    ("console",),
    ("auth", "status"),
    ("events",),
    ("events", "-f", "--since", "1h"),
    ("health",),
    ("wait", "qwen", *SHORT),
    ("wait", "--controller", *SHORT),
    ("assert", "qwen"),
    ("why", "qwen", "--no-probe"),
    ("doctor", "--no-probe"),
]
SITUATIONS = ("nothing listens", "another server answers", "the controller wants a token")
CODES = {"`ctl health`": (3, 3, 0), "`ctl wait --controller`": (3, 3, 0), "all others": (3, 3, 7)}


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "instances.yaml").write_text("instances: [{model: qwen, host: 10.0.0.4, port: 8001}]\n")
    with fake_controller(status=401, body={"detail": "no token"}) as closed, fake_controller() as other:
        vars(other)["answer"] = lambda _path: (404, b"<html>")
        yield dict(zip(SITUATIONS, ("http://127.0.0.1:1", other.url, closed.url), strict=True))


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_the_exit_code(run: Run, addresses: dict[str, str], line: tuple[str, ...], situation: str) -> None:
    codes = CODES.get(f"`ctl {' '.join(line[:2] if line[0] == 'wait' else line)}`", CODES["all others"])
    code, address = codes[SITUATIONS.index(situation)], addresses[situation]
    done = run(*line, "-a", address, expect=code)
    assert "Traceback" not in done.err
    if code:
        assert address in done.out + done.err


@pytest.mark.parametrize("situation", SITUATIONS[:2])
def test_a_wait_for_a_controller_says_which_did_not_answer_and_why(
    run: Run, addresses: dict[str, str], situation: str
) -> None:
    dead = "http://127.0.0.1:2"
    done = run("wait", "--controller", *SHORT, "-a", f"{dead},{addresses[situation]}", expect=3)
    assert done.out == ""
    *during, last = done.err.splitlines()
    assert [line.rpartition("; ")[2] for line in during] == ["still waiting"]
    assert f"no controller answers: {dead}: Connection refused; {addresses[situation]}: " in last


def test_one_controller_that_serves_is_enough(run: Run, addresses: dict[str, str]) -> None:
    serving = addresses["the controller wants a token"]
    assert run("wait", "--controller", "-a", f"http://127.0.0.1:1,{serving}").out.endswith(f"{serving}: ok\n")


def test_the_document_has_the_same_table() -> None:
    rows = [f"| Command | {' | '.join(SITUATIONS)} (401) |", "|---|---|---|---|"]
    rows += [f"| {commands} | {' | '.join(map(str, codes))} |" for commands, codes in CODES.items()]
    assert "\n".join(rows) in (ROOT / "docs" / "exit-codes.md").read_text()


def test_every_command_that_calls_a_controller_is_here() -> None:
    tested = {" ".join(line[: 2 if line[0] in {"models", "auth"} else 1]) for line in LINES}
    without_call = {"context show", "token create", "token rotate"}  # they only show what a call would use
    assert tested == set(callers(COMMAND, "")) - without_call


def callers(command: Any, path: str) -> Iterator[str]:
    """The commands with --verbose, which shows requests."""
    names = getattr(command, "commands", None)
    if names is None and any(param.name == "verbose" for param in command.params):
        yield path
    for name in names or ():
        yield from callers(command.get_command(None, name), f"{path} {name}".strip())
