"""Spans to JSON lines in a file per day, named as DB-GPT's tracer does, for `dbgpt trace list FILE`."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.tracing.writer import BatchSink, NotDelivered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.clock import Clock
    from dbgpt_ctl.tracing.span import Span

DEFAULT_SUFFIX = ".log"


class FileSink(BatchSink):
    """Appends to `path`. Before the first span of a new day (in UTC) it renames the file: `traces.jsonl` of 2 January
    becomes `traces_2026-01-02.jsonl`. It never deletes a file.

    The file is opened for each batch, so it may be moved at any time, and several processes may share it. Missing
    folders are created. Raises UsageError when the path cannot be written.
    """

    def __init__(self, path: str, *, clock: Clock) -> None:
        self._path = Path(path)
        self._clock = clock
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
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
            with self._path.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    _write_all(file.fileno(), b"".join([span.line() for span in spans]))
                except OSError:
                    file.truncate(before)
                    raise
        except OSError as error:
            raise NotDelivered(error.strerror or str(error)) from error

    def _rename_on_new_day(self, today: date) -> None:
        """If the dated file exists, another process that writes to `path` has renamed it."""
        if today == self._day:
            return
        dated = self._path.with_name(f"{self._path.stem}_{self._day.isoformat()}{self._path.suffix or DEFAULT_SUFFIX}")
        if self._path.exists() and not dated.exists():
            self._path.rename(dated)
        self._day = today


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
