"""Sessions in memory: how many there are, when they end, and that they hold no secret."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from dbgpt_ctl.auth.tokens import Mode, sha256_of
from dbgpt_ctl.controller.auth.access import Access
from dbgpt_ctl.controller.auth.session_endpoints import SessionEndpoints
from dbgpt_ctl.controller.auth.sessions import ID_BYTES, MAX_AGE, Sessions
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
