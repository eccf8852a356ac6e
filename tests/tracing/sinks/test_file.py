"""The file sink: lines, days, and files that cannot be written."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.tracing.sinks import file as file_module
from dbgpt_ctl.tracing.sinks.file import MB, FileSink
from dbgpt_ctl.tracing.writer import BatchRefused, NotDelivered
from tests.support.clock import START, ManualClock
from tests.tracing.spans import span

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DAY = 86_400


def numbers(path: Path) -> list[Any]:
    return [json.loads(line)["metadata"]["number"] for line in path.read_text().splitlines()]


def test_a_line_is_as_dbgpt_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=ManualClock())
    one = span(name="千问\n@llm")
    sink.write([one])
    trace_id = one.context.trace_id
    assert path.read_text().count("\n") == 1
    assert json.loads(path.read_text()) == {
        "span_type": "base",
        "trace_id": trace_id,
        "span_id": f"{trace_id}:{one.context.span_id}",
        "parent_span_id": None,
        "operation_name": "dbgpt.model.controller.register_instance",
        "start_time": "2026-01-02 03:04:05.678",
        "end_time": "2026-01-02 03:04:05.678",
        "metadata": {"number": 0, "name": "千问\n@llm"},
    }


def test_each_day_has_its_file(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=clock)
    sink.write([span(1), span(2)])
    clock.advance(DAY)
    sink.write([span(3)])
    sink.write([span(4)])
    clock.advance(3 * DAY)
    sink.write([span(5)])
    assert numbers(tmp_path / "traces_2026-01-02.jsonl") == [1, 2]
    assert numbers(tmp_path / "traces_2026-01-03.jsonl") == [3, 4]
    assert numbers(path) == [5]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_new_day_begins_at_midnight_utc(tmp_path: Path) -> None:
    clock, path = ManualClock(START.replace(hour=23, minute=59, second=59, microsecond=999_999)), tmp_path / "traces"
    sink = FileSink(str(path), max_mb=1, clock=clock)
    sink.write([span(1)])
    clock.advance(0.000_001)
    sink.write([span(2)])
    assert numbers(tmp_path / "traces_2026-01-02.log") == [1]
    assert numbers(path) == [2]


def test_a_file_of_an_earlier_run_keeps_its_day(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    FileSink(str(path), max_mb=1, clock=ManualClock()).write([span(1)])
    os.utime(path, (START.timestamp(), START.timestamp()))
    clock = ManualClock()
    clock.advance(DAY)
    FileSink(str(path), max_mb=1, clock=clock).write([span(2)])
    assert numbers(tmp_path / "traces_2026-01-02.jsonl") == [1]
    assert numbers(path) == [2]


def test_two_processes_with_one_file_lose_nothing(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "traces.jsonl"
    one, other = FileSink(str(path), max_mb=1, clock=clock), FileSink(str(path), max_mb=1, clock=clock)
    one.write([span(1)])
    other.write([span(2)])
    clock.advance(DAY)
    one.write([span(3)])
    other.write([span(4)])
    assert numbers(tmp_path / "traces_2026-01-02.jsonl") == [1, 2]
    assert numbers(path) == [3, 4]


def test_a_file_that_was_moved_away_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=ManualClock())
    sink.write([span(1)])
    path.rename(tmp_path / "mine")
    sink.write([span(2)])
    assert numbers(path) == [2]


def test_a_new_file_is_only_its_owners_and_keeps_another_mode(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=clock)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    sink.write([span(1)])
    clock.advance(DAY)
    sink.write([span(2)])
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == {"traces_2026-01-02.jsonl": 0o640, "traces.jsonl": 0o640}


def test_a_full_file_takes_no_batch_until_the_next_day(tmp_path: Path) -> None:
    clock, path = ManualClock(), tmp_path / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=clock)
    sink.write([span(1, text="x" * 990_000)])
    with pytest.raises(BatchRefused, match=r"the file of 2026-01-02 has reached the 1 MB of tracer_file_max_mb"):
        sink.write([span(2, text="x" * 10_000)])
    with pytest.raises(BatchRefused):
        sink.write([span(3)])  # it would have room, but then a trace has a hole
    assert path.stat().st_size < MB
    clock.advance(DAY)
    sink.write([span(4)])
    assert numbers(tmp_path / "traces_2026-01-02.jsonl") == [1]
    assert numbers(path) == [4]


@pytest.mark.parametrize("rotate", [os.unlink, lambda path: os.truncate(path, 0)])
def test_a_full_file_that_was_rotated_takes_batches_again(tmp_path: Path, rotate: Callable[[Path], None]) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"x" * MB)
    os.utime(path, (START.timestamp(), START.timestamp()))
    sink = FileSink(str(path), max_mb=1, clock=ManualClock())
    with pytest.raises(BatchRefused):
        sink.write([span(1)])
    rotate(path)
    sink.write([span(2)])
    assert numbers(path) == [2]


@pytest.mark.parametrize("make_unwritable", ["is a folder", "below a file", "is a pipe"])
def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path, make_unwritable: str) -> None:
    path = tmp_path / "traces.jsonl"
    if make_unwritable == "is a folder":
        path.mkdir()
    elif make_unwritable == "is a pipe":
        os.mkfifo(path)  # to open it would wait for a reader
    else:
        path.write_text("")
        path = path / "traces.jsonl"
    with pytest.raises(UsageError, match=r"^tracer_file .*traces\.jsonl cannot be written: \S"):
        FileSink(str(path), max_mb=1, clock=ManualClock())


def test_what_a_full_disk_cut_off_is_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=ManualClock())
    sink.write([span(1)])

    def half(descriptor: int, data: memoryview) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(file_module, "_write_all", half)
        with pytest.raises(NotDelivered, match="No space left on device"):
            sink.write([span(2)])
    sink.write([span(2)])
    assert numbers(path) == [1, 2]


def test_a_folder_that_disappears_fails_the_batch_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "traces.jsonl"
    sink = FileSink(str(path), max_mb=1, clock=ManualClock())
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(NotDelivered, match="No such file"):
        sink.write([span(1)])
    path.parent.mkdir()
    sink.write([span(1)])
    assert numbers(path) == [1]
