"""The file of the audit log: what cannot be written, what strangers cause, tokens and certificates that change."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.auth.tokens import Mode, Role, Token
from dbgpt_ctl.auth.tokens_file import TokensFile
from dbgpt_ctl.controller.audit.audit_log import (
    EVERY_SECS,
    MAX_NAMED,
    MAX_STRANGERS_LINES,
    AuditLog,
    create_audit_log,
)
from dbgpt_ctl.controller.auth.tokens_in_force import InForce
from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.clock import START, ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterable

FULL = Path("/dev/full")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def in_force(mode: Mode = Mode.ENFORCE, tokens: Iterable[Token] = ()) -> InForce:
    by_name = {token.name: token for token in tokens}
    return InForce(mode, TokensFile(mode, by_name, "0" * 12, None), in_file=True)


def test_a_line_has_its_time_action_and_outcome(path: Path) -> None:
    audit = AuditLog(path, clock=ManualClock())
    audit.write("drain", fields={"instance": "通义\n\x1b[2J\ud800"})
    assert path.read_text() == (
        '{"time":"2026-01-02T03:04:05.678Z","action":"drain","outcome":"done","instance":"通义\\n\\u001b[2J\\ufffd"}\n'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(not FULL.exists(), reason="needs a full device")
def test_a_full_disk_fails_nothing_and_is_said_once_and_counted(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As long as the path is a link to /dev/full, a write fails as on a full disk."""
    clock = ManualClock()
    path.symlink_to(FULL)
    audit = AuditLog(path, clock=clock)
    assert audit.problem is None
    for _ in range(3):
        audit.write("drain")
        clock.advance(1)
    audit.tick()
    problem = f"audit log {path} cannot be written since {START:%Y-%m-%dT%H:%M:%S}+00:00, and lines are lost: No space"
    assert audit.problem is not None
    assert audit.problem.startswith(problem)
    assert [record.__dict__["event"] for record in caplog.records] == ["audit.unwritable"]
    path.unlink()
    audit.tick()
    assert audit.problem is None
    audit.write("undrain")
    missing, undrain = lines_of(path)
    assert (missing["action"], missing["count"], missing["since"]) == ("lines_missing", 3, "2026-01-02T03:04:05.678Z")
    assert undrain["action"] == "undrain"
    assert [record.__dict__["event"] for record in caplog.records] == ["audit.unwritable", "audit.writable"]


@pytest.mark.skipif(not FULL.exists(), reason="needs a full device")
def test_the_next_line_also_says_what_is_missing(path: Path) -> None:
    path.symlink_to(FULL)
    audit = AuditLog(path)
    audit.write("drain")
    path.unlink()
    audit.write("undrain")
    assert [line["action"] for line in lines_of(path)] == ["lines_missing", "undrain"]


def test_strangers_have_a_few_lines_a_minute_and_a_count(path: Path) -> None:
    clock = ManualClock()

    def monotonic() -> float:
        return (clock.now() - START).total_seconds()

    audit = AuditLog(path, monotonic=monotonic)
    for _ in range(3):
        for _ in range(MAX_STRANGERS_LINES + 5):
            audit.write_of_stranger("drain", "refused", {})
        audit.tick()
        clock.advance(EVERY_SECS)
        audit.tick()
    audit.tick()
    lines = lines_of(path)
    assert len(lines) == 3 * (MAX_STRANGERS_LINES + 1)
    assert [line["count"] for line in lines if line["action"] == "summary"] == [5, 5, 5]


def test_a_tokens_file_that_changed_names_the_tokens(path: Path) -> None:
    audit, gpu, anna = AuditLog(path), Token("gpu", Role.WORKER, ("a" * 64,)), Token("anna", Role.OPERATOR, ("b" * 64,))
    before = in_force(tokens=[gpu, anna])
    audit.tokens_read(before, in_force(tokens=[anna, gpu]))
    assert lines_of(path) == []
    changed = replace(anna, sha256=("c" * 64,))
    audit.tokens_read(before, in_force(Mode.LOG, [changed, Token("new", Role.READER)]))
    mode, tokens = lines_of(path)
    assert (mode["action"], mode["before"], mode["after"]) == ("change_mode", {"mode": "enforce"}, {"mode": "log"})
    one = {"count": 1}
    assert {name: tokens[name] for name in ("added", "removed", "changed")} == {
        "added": {**one, "names": ["new"]},
        "removed": {**one, "names": ["gpu"]},
        "changed": {**one, "names": ["anna"]},
    }
    assert all("a" * 16 not in line and "c" * 16 not in line for line in path.read_text().splitlines())


def test_very_many_tokens_are_counted(path: Path) -> None:
    audit = AuditLog(path)
    audit.tokens_read(in_force(), in_force(tokens=[Token(f"t{number:04}", Role.READER) for number in range(5000)]))
    (line,) = lines_of(path)
    assert line["added"]["count"] == 5000
    assert len(line["added"]["names"]) == MAX_NAMED


def test_a_certificate_that_was_replaced_has_a_line(path: Path) -> None:
    AuditLog(path).certificate_replaced(START + timedelta(days=90))
    (line,) = lines_of(path)
    assert (line["action"], line["after"]) == ("replace_certificate", {"not_after": "2026-04-02T03:04:05.678Z"})


def test_a_start_and_a_stop_have_lines_and_what_was_counted_is_written_before_the_stop(path: Path) -> None:
    audit = AuditLog(path)

    async def run() -> None:
        async with audit.running(in_force):
            for _ in range(MAX_STRANGERS_LINES + 1):
                audit.write_of_stranger("drain", "refused", {})

    asyncio.run(run())
    actions = [line["action"] for line in lines_of(path)]
    assert (actions[0], actions[-2:]) == ("start", ["summary", "stop"])


def test_a_file_that_cannot_be_written_ends_the_start(tmp_path: Path) -> None:
    assert create_audit_log(ControllerSettings()) is None
    with pytest.raises(UsageError, match=f"audit_log_file {tmp_path} cannot be written: Is a directory"):
        create_audit_log(ControllerSettings(audit_log_file=str(tmp_path)))
