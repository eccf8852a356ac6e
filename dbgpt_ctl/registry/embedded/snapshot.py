"""The file of the snapshot with which the facts and events of the embedded registry outlive the process.

The file is written as a whole and put in place in one step. Only its owner may read it: it names every instance.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import RegistryUnusable
from dbgpt_ctl.files import read_file
from dbgpt_ctl.registry.embedded.snapshot_format import Snapshot, TornSnapshot, WrongSnapshot, decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class SnapshotFile:
    """The file. It holds all facts, so drains and tombstones too. `read`, `check` and `write` block.

    A symbolic link at `path` stays: the file that it names is read and replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._running: asyncio.Task[OSError | None] | None = None
        self._next: asyncio.Task[OSError | None] | None = None

    @property
    def target(self) -> Path:
        """The file itself, behind all links. It need not exist."""
        return Path(os.path.realpath(self.path))

    @property
    def draft(self) -> Path:
        """Where the next content is written, beside the target: only there can it take its place in one step.

        One name, where `tempfile` makes many: after a kill it is the one file that is left behind.
        """
        target = self.target
        return target.with_name(f".{target.name}.new")

    def read(self) -> Snapshot:
        """The last snapshot; an empty one when there is no file.

        A torn file is renamed, with a warning: an empty registry is filled within a heartbeat, and an error would keep
        the whole cluster waiting for a person. Raises RegistryUnusable when the file cannot be read or replaced, and
        when it holds something whole that is wrong, as after an edit: its drains would be lost.
        """
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._create_draft())  # a folder without write access is an error now, not at the first write
            self.draft.unlink()
            return self._decoded()
        except OSError as error:
            raise self._unusable(error) from None
        except TornSnapshot as error:
            self._put_aside(error)
            return Snapshot()

    def check(self) -> None:
        """Raises RegistryUnusable for content with which `read` would raise it. Changes nothing."""
        try:
            self._decoded()
        except OSError as error:
            raise self._unusable(error) from None
        except TornSnapshot:
            pass

    def write(self, snapshot: Snapshot) -> None:
        """Replaces the file: every reader, also after a crash, finds the old one or the new one. Raises OSError."""
        content = encoded(snapshot)
        with os.fdopen(self._create_draft(), "wb") as file:
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                self.draft.unlink()  # a disk that is full needs the space
                raise
        self.draft.replace(self.target)

    async def write_latest(self, state: Callable[[], Snapshot]) -> OSError | None:
        """Writes `state()` in a thread. When it returns None, the file holds every change before the call.

        Concurrent calls share one write, and only one runs at a time: two would use the same new file.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._write_after(self._running, state), name="snapshot")
        return await asyncio.shield(self._next)  # the other callers still need the write when this one is cancelled

    async def _write_after(
        self, running: asyncio.Task[OSError | None] | None, state: Callable[[], Snapshot]
    ) -> OSError | None:
        if running is not None:
            await asyncio.wait([running])
        self._running, self._next = self._next, None  # a change from here on needs another write
        try:
            await asyncio.to_thread(self.write, state())
        except OSError as error:
            return error
        finally:
            self._running = None
        return None

    def _create_draft(self) -> int:
        """The descriptor of a new and empty draft, which only its owner may read.

        In a folder that others can write too, a link of theirs with this name is removed or refused, never followed.
        """
        self.draft.unlink(missing_ok=True)
        return os.open(self.draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _decoded(self) -> Snapshot:
        try:
            return decoded(read_file(self.path, None, regular=True))
        except FileNotFoundError:
            return Snapshot()
        except WrongSnapshot as error:
            raise RegistryUnusable(
                f"snapshot {self.path}: {error}; mend the file, or move it away to start without instances and drains"
            ) from None

    def _unusable(self, error: OSError) -> RegistryUnusable:
        return RegistryUnusable(f"snapshot {self.path} cannot be read and written: {error.strerror or error}")

    def _put_aside(self, error: TornSnapshot) -> None:
        target = self.target
        aside = target.with_name(f"{target.name}.unreadable")
        try:
            target.replace(aside)
        except OSError as failure:
            raise RegistryUnusable(
                f"snapshot {self.path} is unreadable and cannot be moved: {failure.strerror}"
            ) from None
        log.warning(
            "snapshot %s is torn (%s): kept as %s, starting empty",
            self.path,
            error,
            aside,
            extra={"event": "snapshot.torn"},
        )
