"""The file of the snapshot: damaged, wrong or no file at all; links, modes and a disk that cannot be written."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import RegistryUnavailable, RegistryUnusable
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.embedded.snapshot import SnapshotFile
from dbgpt_ctl.registry.embedded.snapshot_format import Snapshot
from tests.support.clock import ManualClock

LIVE = Registration(InstanceKey("qwen@llm", "10.0.0.4", 8001))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.json"


def registry_of(path: Path) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(
        clock=ManualClock(), heartbeat_timeout=timedelta(seconds=60), snapshot=SnapshotFile(path)
    )


def register(path: Path) -> None:
    """A registry starts, gets its only instance, and ends."""

    async def scenario() -> None:
        async with registry_of(path) as registry:
            assert {entry.instance.key for entry in (await registry.list()).entries} <= {LIVE.key}
            await registry.register(LIVE)

    asyncio.run(scenario())


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    "text",
    [b"", b"\0" * 4096, b'{"format":"dbgpt_ctl snapshot","version":1,"inst', b'{"format":"dbgpt_ctl snapshot",\0\0}'],
)
def test_a_torn_file_is_kept_aside(path: Path, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(text)
    SnapshotFile(path).check()
    register(path)
    assert path.with_name("snapshot.json.unreadable").read_bytes() == text
    assert "starting empty" in caplog.text
    assert [instance.key for instance in SnapshotFile(path).read().instances] == [LIVE.key]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{}", "it is no snapshot of this program"),
        (b"\x7fELF", "it is not JSON: "),
        (b'{"format":"dbgpt_ctl snapshot","version":2}', "its version is 2, and this release reads 1"),
        (b'{"format":"dbgpt_ctl snapshot",,"version":1}', "it is not JSON: "),
    ],
)
def test_a_file_that_is_whole_and_wrong_is_refused_and_stays(path: Path, text: bytes, problem: str) -> None:
    path.write_bytes(text)
    for use in (SnapshotFile(path).read, SnapshotFile(path).check):
        with pytest.raises(RegistryUnusable) as caught:
            use()
        message = str(caught.value)
        assert message.startswith(f"snapshot {path}: {problem}")
        assert message.endswith("; mend the file, or move it away to start without instances and drains")
        assert "\n" not in message
    assert path.read_bytes() == text
    assert names_in(path.parent) == [path.name]


def test_a_registry_that_does_not_open_replaces_nothing(path: Path) -> None:
    """Not at its end either; a foreign application goes on with a registry that is not ready."""
    path.write_bytes(b"{}")
    registry = registry_of(path)

    async def refused() -> None:
        with pytest.raises(RegistryUnusable) as caught:
            await registry.open()
        assert (registry.health().ready, registry.health().reason) == (False, str(caught.value))
        with pytest.raises(RegistryUnavailable, match="it is no snapshot"):
            await registry.register(LIVE)
        await registry.close()

    async def opened() -> None:
        async with registry:
            await registry.register(LIVE)
            assert (registry.health().ready, registry.health().reason) == (True, None)

    asyncio.run(refused())
    assert path.read_bytes() == b"{}"
    path.unlink()
    asyncio.run(opened())
    assert names_in(path.parent) == [path.name]


def test_what_is_no_regular_file_is_refused_without_waiting(path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, reason in {
        "pipe": "it is a named pipe, not a regular file",
        "folder": "Is a directory",
        "/dev/null": "it is a device, not a regular file",
    }.items():
        path.symlink_to(name)
        for use in (SnapshotFile(path).read, SnapshotFile(path).check):
            with pytest.raises(RegistryUnusable, match=f"snapshot {path} cannot be read and written: {reason}"):
                use()
        path.unlink()


def test_a_place_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    """Even root cannot create a file in /proc."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "snapshot.json", Path("/proc/snapshot.json")):
        with pytest.raises(RegistryUnusable, match=f"snapshot {path} cannot be read and written"):
            SnapshotFile(path).read()
    (tmp_path / "file").unlink()
    SnapshotFile(tmp_path / "snapshot.json").read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(path: Path, tmp_path: Path, exists: bool) -> None:
    target = tmp_path / "data" / "target.json"
    if exists:
        register(target)
    (tmp_path / "link").symlink_to("data/target.json")
    path.symlink_to("link")
    register(path)
    assert path.readlink() == Path("link")
    assert names_in(target.parent) == ["target.json"]
    assert [instance.key for instance in SnapshotFile(target).read().instances] == [LIVE.key]


def test_a_torn_file_behind_a_link_is_kept_beside_it(path: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "target.json").touch()
    path.symlink_to("data/target.json")
    register(path)
    assert path.is_symlink()
    assert names_in(tmp_path / "data") == ["target.json", "target.json.unreadable"]


def test_only_the_owner_may_read_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is written, and where it was open to others before."""
    modes = []
    fsync = os.fsync

    def looking(descriptor: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", looking)
    before = os.umask(0)
    try:
        register(path)
        path.chmod(0o664)
        register(path)
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert mode_of(path) == 0o600


def test_a_planted_draft_is_not_written_through(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    SnapshotFile(path).draft.symlink_to(victim)
    SnapshotFile(path).write(Snapshot(stream="s"))
    assert victim.read_bytes() == b"precious"
    SnapshotFile(path).draft.hardlink_to(victim)
    assert SnapshotFile(path).read() == Snapshot(stream="s")
    assert victim.read_bytes() == b"precious"


def test_a_failed_write_is_in_health_and_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The registry goes on. A folder in the place of the draft stands for what the system refuses."""
    draft = SnapshotFile(path).draft

    async def scenario() -> None:
        async with registry_of(path) as registry:
            draft.mkdir()
            for _ in range(3):
                await registry._write_snapshot()
            assert registry.health().ready
            assert registry.health().reason == f"snapshot {path} cannot be written: Is a directory"
            draft.rmdir()
            await registry._write_snapshot()
            assert registry.health().reason is None

    asyncio.run(scenario())
    assert caplog.text.count("cannot be written") == 1


def test_a_full_disk_leaves_the_last_snapshot_and_no_draft(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SnapshotFile(path).write(Snapshot(stream="first"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        SnapshotFile(path).write(Snapshot(stream="second"))
    assert names_in(path.parent) == [path.name]
    assert SnapshotFile(path).read().stream == "first"
