from __future__ import annotations

from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.auth.tokens_file import read_tokens_file

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Run


def test_a_token_is_ended_and_stays_known(run: Run, tokens_file: Path) -> None:
    secret = run("token", "create", "a", "--role", "reader").out.strip()
    done = run("token", "revoke", "a")
    assert done.out == "token a is revoked\n"
    assert "within a second or so" in done.err
    assert f"back to sha256 of [token.a] in {tokens_file}" in done.err
    token = read_tokens_file(tokens_file).tokens["a"]
    assert (token.sha256, token.revoked_sha256) == ((), (sha256_of(secret),))
    assert run("token", "revoke", "a").out == "token a is revoked already\n"


def test_what_is_not_there(run: Run, tokens_file: Path) -> None:
    run("token", "create", "api", "--role", "reader")
    assert "did you mean api?" in run("token", "revoke", "apy", expect=2).err
    assert "has no old one" in run("token", "revoke", "api", "--old", expect=2).err
    assert not read_tokens_file(tokens_file).tokens["api"].is_revoked


def test_names_are_completed(run: Run, tokens_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from dbgpt_ctl.cli.completion.candidates import tokens

    context = SimpleNamespace(params={})
    assert tokens(context, "") == []
    run("token", "create", "api-1", "--role", "reader")
    run("token", "create", "gpu", "--role", "reader")
    assert tokens(context, "a") == ["api-1"]
    monkeypatch.delenv("CONTROLLER_TOKENS_FILE")
    assert tokens(context, "a") == []
    assert tokens(SimpleNamespace(params={"tokens_file": str(tokens_file)}), "") == ["api-1", "gpu"]
