from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from dbgpt_ctl.auth.tokens import Role, Token, is_name, new_token, sha256_of

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_a_token_is_what_every_client_sends_unchanged_in_a_url() -> None:
    token = new_token(secrets.token_bytes)
    assert re.fullmatch(r"dctl_[A-Za-z0-9_-]{43}", token)
    assert new_token(secrets.token_bytes) != token


def test_all_random_bits_are_in_the_token() -> None:
    assert new_token(lambda count: b"\xff" * count) == "dctl_" + "_" * 42 + "8"


def test_the_hash_is_that_of_sha256sum() -> None:
    assert sha256_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_no_text_of_a_header_fails_to_be_hashed() -> None:
    assert len(sha256_of("\udcff \U0001f600")) == 64


def test_a_token_shows_no_hash() -> None:
    digits = sha256_of("x")
    assert digits not in repr(Token("gpu", Role.WORKER, (digits,), (digits,)))


def test_revoked_and_expired() -> None:
    assert Token("gpu", Role.WORKER).is_revoked
    assert not Token("gpu", Role.WORKER, (sha256_of("x"),)).is_revoked
    assert not Token("gpu", Role.WORKER).is_expired(NOW)
    assert Token("gpu", Role.WORKER, expires=NOW).is_expired(NOW)
    assert not Token("gpu", Role.WORKER, expires=NOW + timedelta(seconds=1)).is_expired(NOW)


@pytest.mark.parametrize("name", ["a", "gpu-1", "Team_A.prod", "x" * 64])
def test_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a:b", "a@b", "ä", "a\n", "-", "--old", new_token(bytes)])
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)
