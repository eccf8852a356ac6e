"""Secrets in texts that are shown, and secrets in files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.errors import UsageError
from dbgpt_ctl.settings.masking import (
    mask_own_tokens,
    mask_tokens,
    mask_url,
    mask_urls,
    mode_if_readable_by_others,
    quote,
    read_secret_file,
    read_token,
    split_token,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://host:1/path", "http://host:1/path"),
        ("https://user:token@host", "https://********@host"),
        ("user:token@host", "********@host"),
        ("http://u:a@b@host", "http://********@host"),
        ("http://u:line\nend@host", "http://********@host"),
        ("1tp://u:t@host", "********@host"),
    ],
)
def test_the_user_and_the_token_of_a_url_are_hidden(text: str, masked: str) -> None:
    assert mask_url(text) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("worker-1", "worker-1"),
        ("python-httpx/0.27.0", "python-httpx/0.27.0"),
        ("dbgpt-worker-qwen-72b-deployment-7d9f8b6c5d-abcde", "dbgpt-worker-qwen-72b-deployment-7d9f8b6c5d-abcde"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("dctl_" + "aB3-" * 10, "********"),
        ("x DCTL_abc y", "x ******** y"),
        ("Basic dXNlcjpkY3RsX2FiY2RlZmdoaWprbG1ub3A=", "Basic ********"),
        ("aB3" * 11, "********"),
    ],
)
def test_what_may_be_a_token_is_hidden_in_a_strangers_text(text: str, masked: str) -> None:
    assert mask_tokens(text) == masked


def test_urls_are_masked_one_by_one_and_a_comma_in_a_token_hides_no_address() -> None:
    assert mask_urls("http://u:t@a,http://b,https://t@c") == "http://********@a,http://b,https://********@c"
    assert mask_urls("http://u:x,y@a") == "http://********@a"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain-1.2:/x", "plain-1.2:/x"),
        ("two words", "'two words'"),
        ("red\x1b[31m", "'red\\x1b[31m'"),
        ("mysql://root:secret@db/x", "mysql://********@db/x"),
        ("x" * 61, "x" * 57 + "..."),
    ],
)
def test_a_wrong_text_is_quoted_short_and_without_control_characters(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(("mode", "readable"), [(0o600, True), (0o400, True), (0o640, False), (0o602, False)])
def test_a_private_file_must_not_be_open_to_others(tmp_path: Path, mode: int, readable: bool) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(mode)
    assert read_secret_file(str(file), "token file") == "secret"
    if readable:
        assert read_secret_file(str(file), "token file", private=True) == "secret"
    else:
        with pytest.raises(UsageError, match=f"token file: others can read or write it .mode {mode:04o}.: chmod 600"):
            read_secret_file(str(file), "token file", private=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a file of root")
@pytest.mark.parametrize(("mode", "readable"), [(0o640, True), (0o440, True), (0o660, False), (0o644, False)])
def test_a_file_of_root_may_be_readable_by_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, *, readable: bool
) -> None:
    """So Kubernetes mounts a Secret for a pod with an fsGroup that does not run as root."""
    file = tmp_path / "token"
    file.write_text("secret\n")
    file.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if readable:
        assert read_token(str(file), "token file") == ("ctl", "secret")
        assert mode_if_readable_by_others(str(file)) is None
    else:
        assert mode_if_readable_by_others(str(file)) == (mode if mode & 0o004 else None)
        with pytest.raises(UsageError, match="others can read or write it"):
            read_token(str(file), "token file")


@pytest.mark.parametrize(("text", "parts"), [("t", ("ctl", "t")), ("u:t:x\n", ("u", "t:x")), (" t ", ("ctl", "t"))])
def test_a_token_and_its_user(text: str, parts: tuple[str, str]) -> None:
    assert split_token(text, "x") == parts


@pytest.mark.parametrize("text", ["", "u:", "two words", "a\nb"])
def test_a_text_without_a_token(text: str) -> None:
    with pytest.raises(UsageError, match=r"^x: holds no token: one line, TOKEN or NAME:TOKEN$"):
        split_token(text, "x")


def test_an_error_hides_our_tokens_and_nothing_else() -> None:
    assert mask_own_tokens(f"--auth dctl_{'aB3-_' * 8} is wrong") == "--auth ******** is wrong"
    assert mask_own_tokens(f"no: Basic {'Y3RsOmRj' * 8}=") == "no: Basic ********"
    for text in (
        "dctl_",
        "dctl_a.toml",
        "Basic authentication is needed",
        "/tmp/x/ABCDEFGHabcdefgh0123456789ABCDEFGHabcdefgh",
    ):
        assert mask_own_tokens(text) == text
