"""The file that a controller logs to, and files that several processes append whole lines to."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from io import TextIOWrapper
    from logging import LogRecord


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


MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 5


class LogFile(RotatingFileHandler):
    """Appends to the file and rotates it. Only the owner may read a new file, because it names instances. After a
    rotation the new file has the mode that somebody gave to the one before, so that a collector of logs can go on.

    Raises OSError when the file cannot be opened. Later, lines that cannot be written are lost, and `problem` says why
    until one can be: `logging` itself prints a traceback for each line.
    """

    def __init__(self, path: Path) -> None:
        self.problem: str | None = None
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=KEPT_FILES, encoding="utf-8")

    def emit(self, record: LogRecord) -> None:
        before, self.problem = self.problem, None
        super().emit(record)  # an error goes to handleError
        if self.problem is not None and before is not None:
            self.problem = before
        elif self.problem is not None and sys.stderr is not None:
            with suppress(OSError):  # it may be on the same disk
                sys.stderr.write(f"ctl: {self.problem}\n")
                sys.stderr.flush()

    def handleError(self, record: LogRecord) -> None:  # noqa: N802 - the name in `logging`
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        stream, self.stream = self.stream, None  # the next line opens the file again, without the rest of this one
        if stream is not None:
            with suppress(OSError):
                stream.close()
        since = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        reason = error.strerror or error
        self.problem = f"log file {self.baseFilename} cannot be written since {since}, and lines are lost: {reason}"

    def doRollover(self) -> None:  # noqa: N802 - the name in `logging`
        mode = stat.S_IMODE(Path(self.baseFilename).stat().st_mode)
        super().doRollover()
        Path(self.baseFilename).chmod(mode)

    def _open(self) -> TextIOWrapper:
        def opener(name: str, flags: int) -> int:
            return os.open(name, flags, 0o600)

        return cast("TextIOWrapper", open(self.baseFilename, self.mode, encoding=self.encoding, opener=opener))
