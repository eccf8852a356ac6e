from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.auth.tokens import Mode
from dbgpt_ctl.auth.tokens_file import read_tokens_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture
def file(run: Run, tokens_file: Path) -> Path:
    run("token", "create", "alice", "--role", "operator")
    return tokens_file


def test_a_mode_is_set_and_says_when_it_takes_effect(run: Run, file: Path) -> None:
    done = run("auth", "mode", "log")
    assert done.out == f"mode log is set in {file}; before: not set\n"
    assert done.err == "ctl: it takes effect within a second or so, at each controller that reads this file\n"
    assert read_tokens_file(file).mode is Mode.LOG
    assert run("auth", "mode", "off").out == f"mode off is set in {file}; before: log\n"
    done = run("auth", "mode", "off")
    assert (done.out, done.err) == (f"mode off is set in {file} already\n", "")


def test_enforce_says_whom_it_would_refuse(run: Run, file: Path) -> None:
    operators = "no token of an operator is valid"
    workers = "no token of a worker is valid"
    done = run("auth", "mode", "enforce")
    assert workers in done.err
    assert operators not in done.err
    assert "ctl auth status" in done.err
    run("token", "revoke", "alice")
    assert operators in run("auth", "mode", "enforce").err
    run("token", "create", "gpu", "--role", "worker")
    assert workers not in run("auth", "mode", "enforce").err


def test_an_expired_token_is_not_valid(run: Run, file: Path) -> None:
    run("token", "create", "gpu", "--role", "worker", "--expires", "1d")
    text = file.read_text()
    at = text.index("expires = ")
    file.write_text(f"{text[:at]}expires = 2020-01-01T00:00:00Z\n")
    assert "no token of a worker is valid" in run("auth", "mode", "enforce").err


def test_only_a_file_that_is_there_gets_a_mode(run: Run, file: Path) -> None:
    file.unlink()
    assert "no such file; ctl token create makes one" in run("auth", "mode", "log", expect=2).err
    assert not file.exists()
    assert "'on' is not one of off, log, enforce" in run("auth", "mode", "on", expect=2).err
