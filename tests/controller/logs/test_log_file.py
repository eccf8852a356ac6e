"""The file that a controller logs to: its mode, and a disk that is full."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dbgpt_ctl.controller.logs import log_file
from dbgpt_ctl.controller.logs.log_file import LogFile
from dbgpt_ctl.controller.service.controller import Controller
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.clock import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ctl.log"


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("x", logging.INFO, "x", 1, text, None, None)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_may_read_it_unless_somebody_allows_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 10)
    with closing(LogFile(path)) as handler:
        handler.handle(record("first"))
        assert mode_of(path) == 0o600
        path.chmod(0o640)
        handler.handle(record("second, after a rotation"))
    assert path.read_text() == "second, after a rotation\n"
    assert (mode_of(path), mode_of(path.with_name("ctl.log.1"))) == (0o640, 0o640)


def test_a_full_disk_is_said_once_and_in_health(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As long as the path is a link to /dev/full, a write fails as on a full disk."""
    path.symlink_to("/dev/full")
    with closing(LogFile(path)) as handler:
        for text in ("first", "second"):
            handler.handle(record(text))
        problem = handler.problem
        assert problem is not None
        assert problem.startswith(f"log file {path} cannot be written since 20")
        assert problem.endswith(", and lines are lost: No space left on device")
        assert capsys.readouterr().err == f"ctl: {problem}\n"
        controller = Controller(EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=timedelta(seconds=60)))
        controller.log_file = handler
        assert (controller.health().ready, controller.health().reason) == (True, problem)
        path.unlink()
        handler.handle(record("third"))
        assert handler.problem is None
    assert path.read_text() == "third\n"


def test_a_rotation_that_fails_loses_lines_and_recovers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MAX_BYTES", 10)
    oldest = path.with_name("ctl.log.5")
    with closing(LogFile(path)) as handler:
        handler.handle(record("first"))
        path.with_name("ctl.log.4").touch()
        oldest.mkdir()  # no file can take its place
        handler.handle(record("second, after a rotation"))
        assert handler.problem is not None
        oldest.rmdir()
        handler.handle(record("third"))
        assert handler.problem is None
    assert (path.read_text(), path.with_name("ctl.log.1").read_text()) == ("third\n", "first\n")


def test_a_wrong_call_of_logging_is_no_full_disk(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(LogFile(path)) as handler:
        handler.handle(logging.LogRecord("x", logging.INFO, "x", 1, "%d", ("text",), None))
        assert handler.problem is None
    assert "TypeError" in capsys.readouterr().err


def test_a_standard_error_on_the_same_disk_ends_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.symlink_to("/dev/full")
    with closing(LogFile(path)) as handler, Path(os.devnull).open(encoding="utf-8") as unwritable:
        monkeypatch.setattr("sys.stderr", unwritable)
        handler.handle(record("first"))
        monkeypatch.setattr("sys.stderr", None)
        handler.handle(record("second"))
        assert handler.problem is not None
