from __future__ import annotations

import os
import signal
import stat
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.atomic_write import edit_lock, replace_file

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys, time
from pathlib import Path
from dbgpt_ctl.atomic_write import edit_lock
with edit_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.toml"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_for_its_owner_only(path: Path) -> None:
    replace_file(path, b"one")
    assert (path.read_bytes(), mode_of(path)) == (b"one", 0o600)


def test_an_old_file_keeps_its_mode(path: Path) -> None:
    path.write_bytes(b"one")
    path.chmod(0o644)
    replace_file(path, b"two")
    assert (path.read_bytes(), mode_of(path)) == (b"two", 0o644)
    replace_file(path, b"three", mode=0o600)
    assert mode_of(path) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_an_old_file_keeps_its_owner(path: Path) -> None:
    path.write_bytes(b"one")
    os.chown(path, 1234, 4321)
    replace_file(path, b"two")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 4321)


def test_an_old_file_keeps_its_acl(path: Path) -> None:
    name, nobody = "system.posix_acl_access", 0xFFFFFFFF
    entries = ((0x01, 6, nobody), (0x02, 4, 1234), (0x04, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    path.write_bytes(b"one")
    try:
        os.setxattr(path, name, acl)
    except (AttributeError, OSError):
        pytest.skip("this file system has no ACLs")
    replace_file(path, b"two")
    assert (path.read_bytes(), os.getxattr(path, name)) == (b"two", acl)
    replace_file(path, b"three", mode=0o600)
    assert name not in os.listxattr(path)


def test_a_file_of_another_user_is_not_taken_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: int) -> None:
        raise PermissionError

    path.write_bytes(b"one")
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((0o600, 0, 0, 1, 12, 34, 0, 0, 0, 0)))
    monkeypatch.setattr(os, "fchown", refuse)
    with pytest.raises(PermissionError, match=r"it belongs to \d+:\d+ \(user:group\): edit it as that user"):
        replace_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path, path: Path) -> None:
    target = tmp_path / "elsewhere" / "b.toml"
    target.parent.mkdir()
    target.write_bytes(b"one")
    path.symlink_to(target)
    with edit_lock(path):
        replace_file(path, b"two")
    assert path.is_symlink()
    assert target.read_bytes() == b"two"


def test_a_draft_of_a_killed_process_or_of_a_stranger_is_not_followed(tmp_path: Path, path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".a.toml.new").symlink_to(victim)
    replace_file(path, b"one")
    assert victim.read_bytes() == b"mine"
    assert not path.is_symlink()


def test_a_failure_leaves_the_old_file_and_no_draft(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path.write_bytes(b"one")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_a_second_editor_waits_in_bounded_time_and_a_kill_frees_the_lock(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(OSError, match="another process is editing"), edit_lock(path, wait_secs=0.05):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(60)
        with edit_lock(path):
            replace_file(path, b"one")
    assert path.read_bytes() == b"one"
