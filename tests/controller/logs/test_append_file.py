"""A file to which whole lines are appended, and which others move, empty or fill."""

from __future__ import annotations

import errno
import os
import resource
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller.logs.append_file import AppendFile

if TYPE_CHECKING:
    from pathlib import Path


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
