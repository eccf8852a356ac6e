"""A file to which whole lines are appended, and which others may move away."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
"""Without waiting, so that a pipe that nobody reads does not stop the requests."""


class AppendFile:
    """Each line is with the system when `append` returns. Only the owner may read a file that it makes.

    A file that was moved or removed, as logrotate does it, is made anew with the next line; one that was emptied is
    continued. `logging.handlers.WatchedFileHandler` does that too. It would leave a part of a line behind when a disk
    is full, and its files may be read by everybody.
    """

    def __init__(self, path: Path) -> None:
        """Makes the file and its folders if they are not there. Raises OSError."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor: int | None = os.open(path, _FLAGS, 0o600)

    def append(self, line: bytes) -> None:
        """Writes a line with its end, or nothing. Raises OSError; the next call opens the file again."""
        try:
            _write_whole(self._current(), line)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file, until the next line."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _current(self) -> int:
        """The descriptor of the file that is at the path now."""
        if self._descriptor is not None and not self._is_at_path(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._descriptor = os.open(self.path, _FLAGS, 0o600)
        return self._descriptor

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(descriptor))
        except OSError:
            return False


def _write_whole(descriptor: int, line: bytes) -> None:
    """Writes the line; a part of it at the end of a file is removed, so that every line in it is whole."""
    written = os.write(descriptor, line)
    if written == len(line):
        return
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, status.st_size - written)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
