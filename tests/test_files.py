"""Files that are read with a bound."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.files import KIB, MIB, read_file, read_with_mode

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("regular", [True, False])
def test_a_file_within_the_bound(tmp_path: Path, regular: bool) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    file.chmod(0o640)
    assert read_file(file, 5, regular=regular) == b"12345"
    assert read_with_mode(str(file), 5, regular=regular) == (b"12345", 0o100640, os.getuid())
    (tmp_path / "link").symlink_to(file)
    assert read_file(tmp_path / "link", 5, regular=regular) == b"12345"


@pytest.mark.parametrize(("bound", "words"), [(4, "4 bytes"), (8 * KIB, "8 KiB"), (3 * MIB, "3 MiB")])
def test_a_file_beyond_the_bound(tmp_path: Path, bound: int, words: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (bound + 1))
    with pytest.raises(OSError, match=f"it is larger than {words}$"):
        read_file(file, bound, regular=True)
    with pytest.raises(OSError, match=f"it is larger than {words}$"):
        read_file("/dev/zero", bound, regular=False)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    """Nobody writes to the pipe: opening it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path, kind in ((tmp_path / "pipe", "named pipe"), (tmp_path / "link", "named pipe"), ("/dev/zero", "device")):
        with pytest.raises(OSError, match=f"it is a {kind}, not a regular file"):
            read_file(path, 5, regular=True)


@pytest.mark.parametrize("regular", [True, False])
def test_the_words_of_the_system(tmp_path: Path, regular: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        cases = {"none": "No such file", ".": "Is a directory", "socket": "No such device", "a\0b": "not a valid file"}
        for path, words in cases.items():
            with pytest.raises(OSError) as caught:  # noqa: PT011 - the words are in strerror
                read_file(path, 5, regular=regular)
            assert words in str(caught.value.strerror)


def test_a_pipe_that_a_person_names_is_read_to_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"12345")
    os.close(writing)
    try:
        assert read_file(f"/dev/fd/{reading}", 5, regular=False) == b"12345"
    finally:
        os.close(reading)
