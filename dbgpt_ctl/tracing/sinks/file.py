"""Spans to JSON lines in a file per day, named as DB-GPT's tracer does, for `dbgpt trace list FILE`."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.tracing.writer import BatchRefused, BatchSink, NotDelivered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from io import FileIO

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.tracing.span import Span

DEFAULT_SUFFIX = ".log"
MB = 1_000_000


class FileSink(BatchSink):
    """Appends to `path`. Before the first span of a new day (in UTC) it renames the file: `traces.jsonl` of 2 January
    becomes `traces_2026-01-02.jsonl`. It never deletes a file.

    A file holds at most `max_mb` MB (of a million bytes). Then all batches are refused until the next day, or until
    something else made the file smaller or moved it.

    The file is opened for each batch, so it may be moved at any time, and several processes may share it. Missing
    folders are created. Only the owner may read a new file, because it names instances; the file of the next day has
    the mode that somebody gave to the one before. Raises UsageError when the path cannot be written.
    """

    def __init__(self, path: str, *, max_mb: int, clock: Clock) -> None:
        self._path = Path(path)
        self._max_mb = max_mb
        self._clock = clock
        self._full_at: int | None = None
        """The size of the file when it had no room for a batch; None while it has room."""
        require_regular_file(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as file:
                is_new = file.tell() == 0
                changed = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        except OSError as error:
            raise UsageError(f"tracer_file {path} cannot be written: {error.strerror}") from None
        self._day = clock.now().date() if is_new else changed.date()

    def __str__(self) -> str:
        return f"file {self._path}"

    def write(self, spans: Sequence[Span]) -> None:
        """Writes all spans or none: it truncates what a full disk cut off."""
        try:
            self._rename_on_new_day(self._clock.now().date())
            with self._open() as file:
                before = file.tell()
                data = b"".join([span.line() for span in spans])
                self._require_room(before, len(data))
                try:
                    _write_all(file.fileno(), data)
                except OSError:
                    with suppress(OSError):  # the reason of the first error is the one to report
                        file.truncate(before)
                    raise
        except OSError as error:
            raise NotDelivered(error.strerror or str(error)) from error

    def _open(self) -> FileIO:
        def opener(name: str, flags: int) -> int:
            return os.open(name, flags, 0o600)

        return open(self._path, "ab", buffering=0, opener=opener)

    def _require_room(self, size: int, more: int) -> None:
        """Raises BatchRefused. A file that was full stays so for smaller batches too: a trace has no holes then."""
        if self._full_at is not None and size < self._full_at:
            self._full_at = None
        if self._full_at is None and size + more > self._max_mb * MB:
            self._full_at = size
        if self._full_at is not None:
            raise BatchRefused(
                f"the file of {self._day.isoformat()} has reached the {self._max_mb} MB of tracer_file_max_mb; the "
                "next day (UTC) has a new file"
            )

    def _rename_on_new_day(self, today: date) -> None:
        """If the dated file exists, another process that writes to `path` has renamed it."""
        if today == self._day:
            return
        dated = self._path.with_name(f"{self._path.stem}_{self._day.isoformat()}{self._path.suffix or DEFAULT_SUFFIX}")
        if self._path.exists() and not dated.exists():
            mode = stat.S_IMODE(self._path.stat().st_mode)
            self._path.rename(dated)
            with self._open() as file:
                os.fchmod(file.fileno(), mode)
        self._day = today
        self._full_at = None


def require_regular_file(path: str) -> None:
    """Raises UsageError for a pipe or a device: the file is renamed each day, and opening a pipe waits."""
    place = Path(path)
    if place.exists() and not place.is_file() and not place.is_dir():  # opening a folder fails with a reason of its own
        raise UsageError(f"tracer_file {path} cannot be written: it is not a regular file")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
