from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.auth.tokens_file import read_tokens_file
from tests.cli.schemas import validated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_two_are_valid_until_the_old_one_is_revoked(run: Run, tokens_file: Path) -> None:
    first = run("token", "create", "gpu", "--role", "worker", "--hosts", "10.0.0.0/8").out.strip()
    done = run("token", "rotate", "gpu", "-o", "json", "-a", "http://ctl-1:8000")
    told = validated("token-rotate", json.loads(done.out))
    second = told["token"]
    assert told["controller_addr"] == f"http://gpu:{second}@ctl-1:8000"
    token = read_tokens_file(tokens_file).tokens["gpu"]
    assert token.sha256 == (sha256_of(second), sha256_of(first))
    assert token.hosts == ("10.0.0.0/8",)
    assert "ctl token revoke gpu --old" in done.err
    third = run("token", "rotate", "gpu", expect=2)
    assert third.out == ""
    assert "ctl token revoke gpu --old" in third.err
    run("token", "revoke", "gpu", "--old")
    token = read_tokens_file(tokens_file).tokens["gpu"]
    assert (token.sha256, token.revoked_sha256) == ((sha256_of(second),), (sha256_of(first),))


def test_its_time_is_renewed(run: Run, tokens_file: Path) -> None:
    run("token", "create", "a", "--role", "reader", "--expires", "1d")
    assert "warning: both expire at " in run("token", "rotate", "a").err
    run("token", "revoke", "a", "--old")
    assert "warning" not in run("token", "rotate", "a", "--expires", "90d").err
    expires = read_tokens_file(tokens_file).tokens["a"].expires
    assert expires
    assert expires - datetime.now(UTC) > timedelta(days=89)
