from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.auth.tokens_file import read_tokens_file
from tests.cli.schemas import validated
from tests.support.process import ctl

if TYPE_CHECKING:
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


@pytest.mark.parametrize("output", ["text", "json", "yaml"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_token_that_nobody_gets_is_not_left_valid(run: Run, tokens_file: Path, output: str) -> None:
    """Otherwise --old would end the one that is in use and leave the one that nobody has."""
    first = run("token", "create", "gpu", "--role", "worker", "--hosts", "10.0.0.0/8").out.strip()
    env = {"CONTROLLER_TOKENS_FILE": str(tokens_file)}
    for args in (("rotate", "gpu"), ("create", "new", "--role", "reader")):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            done = ctl("token", *args, "-o", output, "-q", env=env, stdout=full, expect=1)
        assert "No space left on device" in done.err
        assert f"it is revoked again in {tokens_file}; run this again" in done.err
    tokens = read_tokens_file(tokens_file).tokens
    assert (tokens["gpu"].sha256, tokens["new"].sha256) == ((sha256_of(first),), ())
    run("token", "rotate", "gpu")
    run("token", "create", "new", "--role", "reader")


def test_a_token_whose_reader_is_gone_is_not_left_valid(run: Run, tokens_file: Path) -> None:
    run("token", "create", "gpu", "--role", "reader")
    reader, writer = os.pipe()
    os.close(reader)
    ctl("token", "rotate", "gpu", env={"CONTROLLER_TOKENS_FILE": str(tokens_file)}, stdout=writer, expect=141)
    os.close(writer)
    assert len(read_tokens_file(tokens_file).tokens["gpu"].sha256) == 1
