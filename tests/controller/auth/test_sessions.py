"""Sessions in memory: how many there are, when they end, and that they hold no secret."""

from __future__ import annotations

from itertools import count
from timeit import repeat
from typing import Any

import pytest

from dbgpt_ctl.auth.tokens import Mode, sha256_of
from dbgpt_ctl.controller.auth.access import Access
from dbgpt_ctl.controller.auth.session_endpoints import SessionEndpoints
from dbgpt_ctl.controller.auth.sessions import (
    ID_BYTES,
    MAX_AGE,
    MAX_SAME_NAME,
    Sessions,
    clearing_cookie,
    cookie_name,
    session_ids,
    setting_cookie,
)
from dbgpt_ctl.controller.http.problems import SESSION_PATHS
from tests.support.clock import ManualClock

TOKEN, OTHER = sha256_of("token"), sha256_of("other")


class Subject:
    """Sessions with a clock that stands still, and ids that are counted."""

    def __init__(self, **limits: int) -> None:
        self.clock = ManualClock()
        numbers = count(1)
        self.sizes: list[int] = []

        def random_text(size: int) -> str:
            self.sizes.append(size)
            return f"session-number-{next(numbers):05d}"

        self.ends = 0
        self.sessions = Sessions(self.clock.now, random_text, self.note_end, **limits)

    def note_end(self) -> None:
        self.ends += 1

    def begin(self, token: str = TOKEN) -> str:
        return self.sessions.begin(token)[0]

    def is_there(self, *ids: str) -> bool:
        return self.sessions.of(scope(*ids)) is not None


def scope(*ids: str, port: int = 8000) -> dict[str, Any]:
    header = "; ".join(f"ctl_session_8000={each}" for each in ids).encode()
    return {"headers": [(b"cookie", header)], "server": ("127.0.0.1", port)}


@pytest.fixture
def subject() -> Subject:
    return Subject(max_sessions=4, max_of_token=2)


def test_a_session_names_its_token_for_twelve_hours(subject: Subject) -> None:
    session_id, session = subject.sessions.begin(TOKEN)
    assert subject.sizes == [ID_BYTES]
    assert session.token_sha256 == TOKEN
    assert session.ends - subject.clock.now() == MAX_AGE
    assert subject.sessions.of(scope(session_id)) is session
    subject.clock.advance(MAX_AGE.total_seconds() - 1)
    assert subject.is_there(session_id)
    subject.sessions.forget_old()
    assert subject.ends == 0
    subject.clock.advance(1)
    assert not subject.is_there(session_id)
    for _ in range(2):
        subject.sessions.forget_old()
        assert (len(subject.sessions), subject.ends) == (0, 1)


def test_an_unknown_id_and_another_port_have_none(subject: Subject) -> None:
    assert not subject.is_there("session-number-00001")
    session_id = subject.begin()
    assert not subject.is_there("session-number-00002")
    assert subject.sessions.of(scope(session_id, port=8001)) is None


def test_a_foreign_cookie_of_the_same_name_does_not_hide_a_session(subject: Subject) -> None:
    """Another port of the host can set one."""
    session_id = subject.begin()
    assert subject.is_there("somebody-elses-id", session_id)
    assert subject.is_there(session_id, "somebody-elses-id")


def test_a_token_ends_only_sessions_of_its_own(subject: Subject) -> None:
    of_other = subject.begin(OTHER)
    first, second, third = (subject.begin() for _ in range(3))
    assert not subject.is_there(first)
    assert all(map(subject.is_there, (second, third, of_other)))
    assert subject.ends == 1


def test_the_oldest_session_ends_for_one_too_many(subject: Subject) -> None:
    ids = [subject.begin(sha256_of(str(number))) for number in range(5)]
    assert [subject.is_there(each) for each in ids] == [False, True, True, True, True]
    assert len(subject.sessions) == 4
    assert subject.ends == 1


def test_a_session_that_is_too_old_takes_no_place_of_another(subject: Subject) -> None:
    for number in range(4):
        subject.begin(sha256_of(str(number)))
    subject.clock.advance(MAX_AGE.total_seconds())
    subject.begin()
    assert len(subject.sessions) == 1


def test_a_session_ends_at_once(subject: Subject) -> None:
    session_id, other = subject.begin(), subject.begin(OTHER)
    subject.sessions.end(scope(session_id))
    subject.sessions.end(scope(session_id))
    assert not subject.is_there(session_id)
    assert subject.is_there(other)
    assert subject.ends == 1


def test_neither_ids_nor_tokens_are_kept(subject: Subject) -> None:
    session_id = subject.begin()
    assert session_id not in repr(vars(subject.sessions))
    assert sha256_of(session_id) in subject.sessions._sessions


def test_ids_are_random_by_default() -> None:
    access = Access(None, Mode.OFF, timeout_secs=60)
    first, second = (access.sessions.begin(TOKEN)[0] for _ in range(2))
    assert first != second
    assert len(first) == len(second) == 43


def test_the_paths_are_those_of_the_routes() -> None:
    access = Access(None, Mode.OFF, timeout_secs=60)
    assert {path for route in SessionEndpoints(access).routes() for path in route.paths} == SESSION_PATHS


ID = "A-_9" * 10 + "xyz"
OTHER = "b" * 43


def request_with(*headers: tuple[bytes, bytes], port: int = 8000, scheme: str = "http") -> dict[str, Any]:
    return {"headers": list(headers), "server": ("127.0.0.1", port), "scheme": scheme}


def cookies(value: bytes, **where: Any) -> list[str]:
    return list(session_ids(request_with((b"cookie", value), **where)))


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
    assert list(session_ids(request_with())) == []


def test_the_name_has_the_port_that_the_controller_listens_on() -> None:
    assert cookie_name(request_with((b"host", b"ctl.example:443"), port=8443)) == "ctl_session_8443"


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
    sent = request_with(*(() if origin is None else ((b"origin", origin),)), scheme=scheme)
    for header in (setting_cookie(sent, ID), clearing_cookie(sent)):
        value, *attributes = header.split("; ")
        assert value.startswith("ctl_session_8000=")
        expected = {"Path=/", "HttpOnly", "SameSite=Strict"} | ({"Secure"} if secure else set())
        assert set(attributes) - {"Max-Age=0"} == expected
    assert setting_cookie(sent, ID).startswith(f"ctl_session_8000={ID}; ")
    assert clearing_cookie(sent).startswith("ctl_session_8000=; Max-Age=0; ")
