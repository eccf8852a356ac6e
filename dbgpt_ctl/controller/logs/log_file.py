"""The file that a controller logs to."""

from __future__ import annotations

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
