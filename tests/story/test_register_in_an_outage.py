"""`ctl models register` while the databases of two controllers are away: it waits for the cause that they give."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from dbgpt_ctl.registry.database.registry import REGISTER_DEADLINE_SECS
from dbgpt_ctl.settings.schema import ClientSettings
from tests.support.controller_process import serving
from tests.support.process import ctl

if TYPE_CHECKING:
    from pathlib import Path


def test_the_cause_is_the_database_and_not_a_controller_that_hangs(tmp_path: Path) -> None:
    with ExitStack() as stack:
        urls = []
        for name in ("one.db", "two.db"):
            flags = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name")
            urls.append(stack.enter_context(serving([*flags, str(tmp_path / name)])))
            locked = stack.enter_context(closing(sqlite3.connect(tmp_path / name, isolation_level=None)))
            locked.execute("BEGIN EXCLUSIVE")
        done = ctl("models", "register", "qwen/10.0.0.4:8001", "-a", ",".join(urls), expect=3)
    assert done.err.count(": 503 ") == 2
    assert "no answer within" not in done.err


def test_by_default_a_change_may_take_longer_than_a_controller_waits_for_its_database() -> None:
    assert ClientSettings().request_timeout > REGISTER_DEADLINE_SECS
