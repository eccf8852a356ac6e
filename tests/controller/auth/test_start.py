"""What is worth a warning about the check of requests before a start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.controller.auth.start import access_warnings, create_access
from dbgpt_ctl.errors import UsageError
from tests.settings.loading import controller

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = f'''
[token.gpu]
role = "worker"
sha256 = ["{"0" * 64}"]
[token.api]
role = "reader"
sha256 = ["{"1" * 64}"]
'''


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "localhost", "::1"])
def test_auth_may_be_off_on_loopback(host: str) -> None:
    assert access_warnings(controller(host=host)) == []
    assert access_warnings(controller(host=host, require_auth=True)) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "ctl-1"])
def test_auth_that_is_off_elsewhere_is_warned_of(host: str, tokens: Path) -> None:
    [line] = access_warnings(controller(host=host))
    assert line.startswith("auth is off, and other machines can reach this controller (host ")
    assert access_warnings(controller(host=host, auth="log", tokens_file=tokens)) == []
    with pytest.raises(UsageError, match="--require-auth"):
        access_warnings(controller(host=host, require_auth=True))


def test_a_tokens_file_without_effect_is_warned_of(tokens: Path) -> None:
    assert access_warnings(controller(tokens_file=tokens)) == [
        f"tokens_file {tokens} without effect: auth is off; ctl auth mode log begins the check"
    ]
    tokens.write_text(f'mode = "off"{TOKENS}')
    assert access_warnings(controller(tokens_file=tokens, auth="enforce")) == [
        f"tokens_file {tokens} without effect: auth is off; ctl auth mode log begins the check"
    ]
    tokens.write_text(f'mode = "log"{TOKENS}')
    assert access_warnings(controller(tokens_file=tokens, host="0.0.0.0")) == []


def test_enforce_mode_without_a_token_is_warned_of(tokens: Path) -> None:
    tokens.write_text("")
    assert access_warnings(controller(tokens_file=tokens, auth="log")) == []
    assert access_warnings(controller(tokens_file=tokens, auth="enforce")) == [
        f"tokens_file {tokens} holds no token, or only revoked ones: every request is refused"
    ]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o440, 0), (0o644, 1), (0o604, 1)])
def test_a_tokens_file_that_everybody_can_read_is_warned_of(tokens: Path, mode: int, warned: int) -> None:
    tokens.chmod(mode)
    lines = access_warnings(controller(tokens_file=tokens, auth="enforce"))
    assert len(lines) == warned
    assert all(f"(mode {mode:04o}): chmod 600 {tokens}" in line for line in lines)


def test_a_tokens_file_that_cannot_be_used_ends_a_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.toml"):
        access_warnings(controller(tokens_file=tmp_path / "no.toml"))


def test_the_mode_and_the_number_of_tokens_are_shown(tokens: Path) -> None:
    assert str(create_access(controller()).in_force) == "auth off"
    assert str(create_access(controller(auth="log")).in_force) == "auth log"
    shown = str(create_access(controller(auth="enforce", tokens_file=tokens)).in_force)
    assert shown.startswith("auth enforce with 2 tokens (digest ")
