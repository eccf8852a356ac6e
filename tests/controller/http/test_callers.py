"""What the header Authorization may look like."""

from __future__ import annotations

import base64

import pytest

from dbgpt_ctl.controller.http.callers import MAX_HEADER_BYTES, Credentials, credentials_of


def basic(pair: bytes, scheme: bytes = b"Basic") -> bytes:
    return scheme + b" " + base64.b64encode(pair)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (basic(b"worker-a:secret"), Credentials("secret", "worker-a")),
        (basic(b":secret"), Credentials("secret")),
        (basic(b"secret:"), Credentials("secret")),
        (basic(b"a:b:c"), Credentials("b:c", "a")),
        (basic(b"a:secret", b"basic"), Credentials("secret", "a")),
        (b"BASIC   " + base64.b64encode(b":secret"), Credentials("secret")),
        (b"Bearer secret", Credentials("secret")),
        (b"bearer secret ", Credentials("secret")),
        (b"Basic " + base64.b64encode("ü:ä".encode()), Credentials("Ã¤", "Ã¼")),
    ],
)
def test_a_token_is_the_password_or_the_user_without_one(header: bytes, expected: Credentials) -> None:
    assert credentials_of(header) == expected


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Basic",
        b"Basic ",
        b"Bearer",
        b"Bearer  ",
        b"Digest username=a",
        b"Basic !!!!",
        b"Basic \xff\xfe",
        basic(b":"),
        basic(b"without a colon"),
        b"Basic " + base64.b64encode(b"a:b").rstrip(b"=") + b"*",
        basic(b":" + b"x" * MAX_HEADER_BYTES),
    ],
)
def test_a_header_without_a_token_holds_none(header: bytes) -> None:
    assert credentials_of(header) is None
