"""The file that a controller logs to: its mode, and a disk that is full."""

from __future__ import annotations

import errno
import logging
import os
import resource
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dbgpt_ctl.controller.logs import log_file
from dbgpt_ctl.controller.logs.log_file import AppendFile, LogFile
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


def test_only_its_owner_may_read_it_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "audit.jsonl"
    with closing(AppendFile(path)) as file:
        file.append(b"1\n")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"1\n", 0o600)


def test_a_file_that_is_there_is_continued_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"0\n")
    path.chmod(0o640)
    with closing(AppendFile(path)) as file:
        file.append(b"1\n")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"0\n1\n", 0o640)


def test_a_file_that_is_moved_is_made_anew_and_one_that_is_emptied_is_continued(tmp_path: Path) -> None:
    path, moved = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    with closing(AppendFile(path)) as file:
        file.append(b"1\n")
        path.rename(moved)
        file.append(b"2\n")
        os.truncate(path, 0)
        file.append(b"3\n")
        path.unlink()
        file.append(b"4\n")
    assert (moved.read_bytes(), path.read_bytes()) == (b"1\n", b"4\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_disk_that_is_full_keeps_no_part_of_a_line(tmp_path: Path) -> None:
    """The largest size of a file stands for the disk: the system takes a part of the line, too."""
    path = tmp_path / "audit.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(AppendFile(path)) as file:
        file.append(b"12345\n")
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    file.append(b"67890\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == b"12345\n"
        file.append(b"67890\n")
    assert path.read_bytes() == b"12345\n67890\n"


def test_a_pipe_that_nobody_reads_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="No such device") as caught:
        AppendFile(path)
    assert caught.value.errno == errno.ENXIO
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with closing(AppendFile(path)) as file, pytest.raises(OSError, match=r"No space left|temporarily unavailable"):
        fill(file)
    os.close(reader)


def fill(file: AppendFile) -> None:
    for _ in range(1000):
        file.append(b"x" * 4096 + b"\n")
