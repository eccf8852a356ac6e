"""The cookie of a session: its name, its attributes, and what is read of cookies that anybody may have set."""

from __future__ import annotations

from timeit import repeat
from typing import Any

import pytest

from dbgpt_ctl.controller.auth.session_cookie import (
    MAX_SAME_NAME,
    clearing_cookie,
    cookie_name,
    session_ids,
    setting_cookie,
)

ID = "A-_9" * 10 + "xyz"
OTHER = "b" * 43


def scope(*headers: tuple[bytes, bytes], port: int = 8000, scheme: str = "http") -> dict[str, Any]:
    return {"headers": list(headers), "server": ("127.0.0.1", port), "scheme": scheme}


def cookies(value: bytes, **where: Any) -> list[str]:
    return list(session_ids(scope((b"cookie", value), **where)))


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        (f"ctl_session_8000={ID}", [ID]),
        (f"a=b; ctl_session_8000={ID}; c=d", [ID]),
        (f"a=b;ctl_session_8000={ID};", [ID]),
        (f"ctl_session_8000={ID}; ctl_session_8000={OTHER}", [ID, OTHER]),
        (f"ctl_session_8001={ID}", []),
        (f"ctl_session_80000={ID}", []),
        (f"CTL_SESSION_8000={ID}", []),
        (f"xctl_session_8000={ID}", []),
        (f'ctl_session_8000="{ID}"', []),
        (f"ctl_session_8000 ={ID}", []),
        ("ctl_session_8000=", []),
        ("ctl_session_8000", []),
        (f"ctl_session_8000={ID}=", []),
        ("ctl_session_8000=short", []),
        ("ctl_session_8000=" + "x" * 65, []),
        ("ctl_session_8000=" + "x" * 60_000, []),
        ("ctl_session_8000=\xff\xfe\x00" + ID, []),
        (f"ctl_session_8000={ID}\n", [ID]),
        (";;;=;==;", []),
        ("", []),
    ],
)
def test_only_cookies_of_this_port_that_look_like_an_id_are_read(header: str, ids: list[str]) -> None:
    assert cookies(header.encode("latin-1")) == ids


def test_no_more_cookies_of_one_name_are_read_than_a_few() -> None:
    header = "; ".join(f"ctl_session_8000={'x' * 42}{number}" for number in range(9))
    assert len(cookies(header.encode())) == MAX_SAME_NAME
    wrong_first = "ctl_session_8000=no; " * MAX_SAME_NAME + f"ctl_session_8000={ID}"
    assert cookies(wrong_first.encode()) == []


@pytest.mark.parametrize("part", [";", "a;", "; ", "ctl_session_8000=", "ctl_session_8000=x; "])
def test_a_large_header_of_a_stranger_takes_no_look_at_each_of_its_cookies(part: str) -> None:
    header = (part * (60_000 // len(part))).encode()

    def look_at_each() -> None:
        for pair in (b";" * 60_000).split(b";"):
            pair.strip().partition(b"=")

    taken, too_long = (min(repeat(work, number=1, repeat=7)) for work in (lambda: cookies(header), look_at_each))
    assert taken < too_long / 2


def test_a_request_without_a_cookie_has_no_session() -> None:
    assert list(session_ids(scope())) == []


def test_the_name_has_the_port_that_the_controller_listens_on() -> None:
    assert cookie_name(scope((b"host", b"ctl.example:443"), port=8443)) == "ctl_session_8443"


@pytest.mark.parametrize(
    ("scheme", "origin", "secure"),
    [
        ("http", None, False),
        ("http", b"http://ctl.example", False),
        ("http", b"https://ctl.example", True),
        ("https", None, True),
        ("https", b"https://ctl.example", True),
    ],
)
def test_it_is_secure_where_the_browser_uses_tls(scheme: str, origin: bytes | None, *, secure: bool) -> None:
    sent = scope(*(() if origin is None else ((b"origin", origin),)), scheme=scheme)
    for header in (setting_cookie(sent, ID), clearing_cookie(sent)):
        value, *attributes = header.split("; ")
        assert value.startswith("ctl_session_8000=")
        expected = {"Path=/", "HttpOnly", "SameSite=Strict"} | ({"Secure"} if secure else set())
        assert set(attributes) - {"Max-Age=0"} == expected
    assert setting_cookie(sent, ID).startswith(f"ctl_session_8000={ID}; ")
    assert clearing_cookie(sent).startswith("ctl_session_8000=; Max-Age=0; ")
