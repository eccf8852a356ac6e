"""The check of a request, without a server."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.auth.tokens import Mode, Role, sha256_of
from dbgpt_ctl.controller.auth.access import MAX_CLOCK_OFFSET, MAX_KNOWN, Access
from dbgpt_ctl.controller.auth.sessions import MAX_AGE, MAX_OF_TOKEN
from dbgpt_ctl.controller.http.callers import (
    IDENTITY,
    InstanceCount,
    RouteAccess,
    ValidToken,
    check_again,
    check_instance,
    count_without_instance,
    forget_instance,
    may_read,
)
from dbgpt_ctl.domain.instance import InstanceKey
from dbgpt_ctl.errors import AccessRefused, NotAuthenticated, NotPermitted, UsageError
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400.0
KEY = InstanceKey("chat@llm", "127.0.0.1", 8001)
FILE = f"""
[token.w]
role = "worker"
sha256 = ["{sha256_of("worker")}", "{sha256_of("old worker")}"]
revoked_sha256 = ["{sha256_of("leaked")}"]
models = ["chat*@llm"]
hosts = ["127.0.0.0/8"]
max_instances = 2

[token.r]
role = "reader"
sha256 = ["{sha256_of("reader")}"]
expires = 2026-01-02T01:00:00+01:00

[token.o]
role = "operator"
sha256 = ["{sha256_of("operator")}"]

[token.m]
role = "metrics"
sha256 = ["{sha256_of("metrics")}"]
"""


class Subject:
    """An `Access` of a tokens file in a folder of its own."""

    def __init__(self, folder: Path, mode: Mode) -> None:
        path = folder / "tokens.toml"
        path.write_text(FILE)
        path.chmod(0o600)
        self.clock = ManualClock(NOW)
        self.monotonic = 0.0
        self.access = Access(path, mode, timeout_secs=60, clock=self.clock, monotonic=lambda: self.monotonic)

    def request(self, token: str | None, route: RouteAccess, *, method: str = "POST", name: str = "") -> dict[str, Any]:
        """The scope of a request after its check."""
        headers = (
            [] if token is None else [(b"authorization", b"Basic " + base64.b64encode(f"{name}:{token}".encode()))]
        )
        scope = {"method": method, "path": "/api/x", "headers": headers, "client": ("127.0.0.9", 4)}
        self.access.check(scope, route)
        return scope

    def page(self, session_id: str, *, method: str = "GET") -> dict[str, Any]:
        """The scope of a request that a page sends with the cookie of a session, before its check."""
        headers = [
            *((b"host", b"ctl:8000"), (b"origin", b"http://ctl:8000"), (b"content-type", b"application/json")),
            (b"cookie", b"ctl_session_8000=" + session_id.encode()),
        ]
        return {"method": method, "path": "/api/x", "headers": headers, "client": None, "server": ("127.0.0.1", 8000)}

    def reasons(self) -> list[tuple[str, str | None, str | None]]:
        """What was counted: reason, token, instance."""
        return [(row.reason, row.token, row.instance and str(row.instance)) for row, _ in self.access.refusals.rows()]


@pytest.fixture
def enforcing(tmp_path: Path) -> Subject:
    return Subject(tmp_path, Mode.ENFORCE)


@pytest.fixture
def logging(tmp_path: Path) -> Subject:
    return Subject(tmp_path, Mode.LOG)


@pytest.mark.parametrize(
    ("token", "route", "error", "reason"),
    [
        (None, RouteAccess.READER, NotAuthenticated, "none"),
        ("other", RouteAccess.READER, NotAuthenticated, "unknown"),
        ("leaked", RouteAccess.READER, NotAuthenticated, "revoked"),
        ("reader", RouteAccess.WORKER, NotPermitted, "role"),
        ("worker", RouteAccess.OPERATOR, NotPermitted, "role"),
        ("metrics", RouteAccess.READER, NotPermitted, "role"),
    ],
)
def test_enforce_refuses(
    enforcing: Subject, token: str | None, route: RouteAccess, error: type[AccessRefused], reason: str
) -> None:
    with pytest.raises(error) as refused:
        enforcing.request(token, route)
    assert refused.value.reason == reason
    text = str(refused.value)
    assert text.isascii()
    assert text.isprintable()
    assert "CTL_TOKEN" in text
    assert enforcing.reasons()[0][0] == reason


@pytest.mark.parametrize("token", ["worker", "old worker", "operator"])
def test_a_valid_token_is_the_identity_of_its_requests(enforcing: Subject, token: str) -> None:
    first, second = (enforcing.request(token, RouteAccess.WORKER, name=name)[IDENTITY] for name in ("a", "b"))
    assert isinstance(first, ValidToken)
    assert first is second
    assert first.is_old == (token == "old worker")
    assert first.uses == 2


def test_the_line_of_an_instance_out_of_scope_says_what_to_write_where(enforcing: Subject) -> None:
    """It ends up in the log of a worker."""
    scope = enforcing.request("worker", RouteAccess.WORKER)
    model = (
        "token w is for the models 'chat*@llm', not for '\\u6a21\\u578b@llm': write another token into "
        "controller_addr, or add it to models of [token.w] in the tokens file"
    )
    host = (
        "token w is for the hosts '127.0.0.0/8', not for '10.0.0.4': correct worker_register_host, or add it to "
        "hosts of [token.w] in the tokens file"
    )
    for key, line in ((KEY._replace(model_name="模型@llm"), model), (KEY._replace(host="10.0.0.4"), host)):
        with pytest.raises(NotPermitted) as refused:
            check_instance(scope, key)
        assert str(refused.value) == line
        assert line.isascii()


def test_a_token_is_valid_until_it_expires(enforcing: Subject, caplog: pytest.LogCaptureFixture) -> None:
    enforcing.request("reader", RouteAccess.READER)
    enforcing.clock.advance(86_399)
    enforcing.access.tick()
    assert "has expired" not in caplog.text
    enforcing.clock.advance(1)
    for _ in range(2):
        enforcing.access.tick()
    assert caplog.text.count("token r has expired: ctl token rotate r --expires 90d renews it") == 1
    with pytest.raises(NotAuthenticated, match="token r expired at 2026-01-02 00:00:00Z"):
        enforcing.request("reader", RouteAccess.READER)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (KEY._replace(model_name="other@llm"), "models"),
        (KEY._replace(model_name="Chat@llm"), "models"),
        (KEY._replace(host="10.0.0.1"), "hosts"),
        (KEY._replace(model_name="WorkerManager@service", host="10.0.0.1"), "hosts"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_worker_keeps_to_its_scope(enforcing: Subject, key: InstanceKey, reason: str, method: str) -> None:
    scope = enforcing.request("worker", RouteAccess.WORKER, method=method)
    with pytest.raises(NotPermitted, match=r"token w is for the") as refused:
        check_instance(scope, key)
    assert refused.value.reason == reason
    assert enforcing.reasons() == [(reason, "w", str(key))]
    check_instance(scope, KEY._replace(model_name="WorkerManager@service"))
    check_instance(enforcing.request("operator", RouteAccess.WORKER, method=method), key)


def test_a_token_has_at_most_its_number_of_living_instances(enforcing: Subject) -> None:
    scope = enforcing.request("worker", RouteAccess.WORKER)
    for port in (1, 2, 2, 1):
        check_instance(scope, KEY._replace(port=port))
    with pytest.raises(NotPermitted, match="token w has its 2 instances already"):
        check_instance(scope, KEY._replace(port=3))
    check_instance(enforcing.request("worker", RouteAccess.WORKER, method="DELETE"), KEY._replace(port=1))
    check_instance(scope, KEY._replace(port=3))
    enforcing.monotonic += 60
    check_instance(scope, KEY._replace(port=4))


def test_a_token_expires_by_the_clock_of_the_registry(enforcing: Subject) -> None:
    enforcing.clock.advance(DAY + 299)  # this host is 300 s ahead
    with pytest.raises(NotAuthenticated, match="token r expired"):
        enforcing.request("reader", RouteAccess.READER)
    enforcing.access.follow_clock(timedelta(seconds=-300))
    enforcing.request("reader", RouteAccess.READER)
    enforcing.clock.advance(1)
    with pytest.raises(NotAuthenticated, match="token r expired"):
        enforcing.request("reader", RouteAccess.READER)


def test_a_clock_of_the_registry_that_is_wrong_by_days_counts_little(enforcing: Subject) -> None:
    enforcing.clock.advance(DAY + MAX_CLOCK_OFFSET.total_seconds() - 1)
    enforcing.access.follow_clock(timedelta(days=-30))
    enforcing.request("reader", RouteAccess.READER)
    enforcing.clock.advance(1)
    with pytest.raises(NotAuthenticated, match="token r expired"):
        enforcing.request("reader", RouteAccess.READER)
    enforcing.clock.advance(-3 * MAX_CLOCK_OFFSET.total_seconds())
    enforcing.access.follow_clock(timedelta(days=30))
    enforcing.request("reader", RouteAccess.READER)


def test_requests_are_not_counted_for_longer_because_the_registry_has_another_clock(enforcing: Subject) -> None:
    access = enforcing.access
    enforcing.clock.advance(60)
    for offset in (-300, 300, 86_400, 0):
        access.follow_clock(timedelta(seconds=offset))
        assert access.now() - access.refusals.since == timedelta(seconds=60)


def test_a_clock_that_was_ahead_at_the_start_does_not_hide_an_expiry(enforcing: Subject) -> None:
    changes: list[None] = []
    enforcing.clock.advance(400 * DAY)
    enforcing.access.use(enforcing.access.in_force)
    enforcing.clock.advance(-400 * DAY)
    enforcing.access.tick()  # the token is valid again, and a watch may begin
    enforcing.access.changed = lambda: changes.append(None)
    enforcing.clock.advance(DAY)
    enforcing.access.tick()
    assert changes == [None]


def test_a_request_whose_body_comes_late_is_checked_again(enforcing: Subject) -> None:
    access = enforcing.access
    scopes = {name: enforcing.request(name, RouteAccess.READER) for name in ("worker", "operator", "reader")}
    for scope in scopes.values():
        check_again(scope)
    enforcing.clock.advance(DAY)
    access.tick()
    with pytest.raises(NotAuthenticated, match="token r expired"):
        check_again(scopes["reader"])
    file = access.in_force.file
    assert file is not None
    less = replace(file, tokens={name: token for name, token in file.tokens.items() if name != "w"})
    access.use(access.in_force._replace(file=less))
    with pytest.raises(NotAuthenticated, match="not known"):
        check_again(scopes["worker"])
    check_again(scopes["operator"])
    assert scopes["operator"][IDENTITY] is access.identities[sha256_of("operator")]


def test_an_instance_that_the_registry_does_not_take_has_no_place(enforcing: Subject) -> None:
    scope = enforcing.request("worker", RouteAccess.WORKER)
    for port in (1, 2):
        check_instance(scope, KEY._replace(port=port))
    forget_instance(scope, KEY._replace(port=2))
    check_instance(scope, KEY._replace(port=3))
    with pytest.raises(NotPermitted, match="has its 2 instances already"):
        check_instance(scope, KEY._replace(port=2))


def test_no_more_instances_are_remembered_than_are_alive() -> None:
    now = 0.0
    count = InstanceCount(60, lambda: now)
    for second in range(300):
        now = float(second)
        assert count.has_room(KEY, 1_000)
        assert count.has_room(KEY._replace(port=1 + second), 1_000)
    assert len(count) == 61


def test_log_mode_serves_all_and_counts_with_the_instance(logging: Subject) -> None:
    check_instance(logging.request(None, RouteAccess.WORKER), KEY)
    check_instance(logging.request("reader", RouteAccess.WORKER), KEY)
    check_instance(logging.request("worker", RouteAccess.WORKER), KEY._replace(host="10.0.0.1"))
    logging.request("other", RouteAccess.OPERATOR)
    assert sorted(logging.reasons(), key=str) == [
        ("hosts", "w", "chat@llm/10.0.0.1:8001"),
        ("none", None, str(KEY)),
        ("role", "r", str(KEY)),
        ("unknown", None, None),
    ]


def test_log_mode_counts_a_request_once_whatever_becomes_of_it(logging: Subject) -> None:
    unread = logging.request(None, RouteAccess.WORKER)
    count_without_instance(unread)
    count_without_instance(unread)
    check_instance(logging.request(None, RouteAccess.OPERATOR), KEY)
    check_instance(logging.request("worker", RouteAccess.WORKER), KEY._replace(host="10.0.0.1", model_name="x@llm"))
    count_without_instance(logging.request("worker", RouteAccess.WORKER))
    assert [(row.reason, tally.count) for row, tally in logging.access.refusals.rows()] == [("none", 2), ("models", 1)]


def test_the_use_of_each_token_has_a_time_and_an_old_one_is_counted(enforcing: Subject) -> None:
    access = enforcing.access
    for token in ("worker", "worker", "old worker"):
        enforcing.request(token, RouteAccess.WORKER)
    access.tick()
    later = enforcing.clock.advance(20)
    enforcing.request("worker", RouteAccess.WORKER)
    access.use(access.in_force)
    assert access.last_use.of(sha256_of("worker")) == later
    assert access.last_use.of(sha256_of("old worker")) == NOW
    assert access.last_use.of(sha256_of("reader")) is None
    assert [(*row[:2], tally.served) for row, tally in access.refusals.rows()] == [("old-token", "127.0.0.9", True)]


def test_it_is_known_since_when_refusals_are_counted(enforcing: Subject) -> None:
    access = enforcing.access
    enforcing.clock.advance(60)
    access.use(access.in_force._replace(mode=Mode.LOG))
    assert access.refusals.since == NOW
    access.use(access.in_force._replace(mode=Mode.OFF))
    begun = enforcing.clock.advance(60)
    access.use(access.in_force._replace(mode=Mode.LOG))
    assert access.refusals.since == begun


def test_what_is_for_everyone_shows_reasons_to_readers_only(enforcing: Subject, logging: Subject) -> None:
    for token in (None, "other", "leaked", "metrics"):
        assert not may_read(enforcing.request(token, RouteAccess.EVERYONE))
    for token in ("reader", "worker", "operator"):
        assert may_read(enforcing.request(token, RouteAccess.EVERYONE))
    assert enforcing.reasons() == []
    assert may_read(logging.request(None, RouteAccess.EVERYONE))


def test_a_long_answer_goes_on_for_a_role_that_may_use_its_route(enforcing: Subject) -> None:
    assert enforcing.access.refusal_of(enforcing.request("metrics", RouteAccess.METRICS)) is None
    assert enforcing.access.refusal_of(enforcing.request("metrics", RouteAccess.EVERYONE)) is None
    reading = enforcing.request("reader", RouteAccess.READER)
    assert enforcing.access.refusal_of(reading) is None
    enforcing.clock.advance(DAY)
    assert enforcing.access.refusal_of(reading) is not None


@pytest.mark.parametrize("way", ["old", "signed out", "another one signs in", "expired"])
def test_a_long_answer_ends_with_the_session(enforcing: Subject, way: str) -> None:
    access = enforcing.access
    changes: list[None] = []
    access.changed = lambda: changes.append(None)
    session_id, _ = access.sessions.begin(sha256_of("reader"))
    scope = enforcing.page(session_id)
    access.check(scope, RouteAccess.READER)
    assert access.refusal_of(scope) is None
    match way:
        case "old":
            enforcing.clock.advance(MAX_AGE.total_seconds())
        case "signed out":
            access.sessions.end(scope)
        case "another one signs in":
            for _ in range(MAX_OF_TOKEN):
                access.sessions.begin(sha256_of("reader"))
        case "expired":
            enforcing.clock.advance(DAY / 2 + 1)
            later, _ = access.sessions.begin(sha256_of("reader"))
            scope = enforcing.page(later)
            enforcing.clock.advance(DAY / 2 - 1)
    access.tick()
    assert changes
    refused = access.refusal_of(scope)
    assert refused is not None
    assert refused.reason == ("expired" if way == "expired" else "none")


def test_a_change_of_a_session_whose_body_comes_late_is_checked_again(enforcing: Subject) -> None:
    access = enforcing.access
    session_id, _ = access.sessions.begin(sha256_of("operator"))
    scope = enforcing.page(session_id, method="POST")
    access.check(scope, RouteAccess.OPERATOR)
    assert scope[IDENTITY].uses == 1
    access.use(access.in_force)
    check_again(scope)
    file = access.in_force.file
    assert file is not None
    revoked = replace(file.tokens["o"], sha256=(), revoked_sha256=file.tokens["o"].sha256)
    access.use(access.in_force._replace(file=replace(file, tokens={**file.tokens, "o": revoked})))
    with pytest.raises(NotAuthenticated, match="token o is revoked"):
        check_again(scope)


def test_a_caller_cannot_fill_the_memory_with_names(enforcing: Subject) -> None:
    for number in range(MAX_KNOWN + 2):
        enforcing.request("worker", RouteAccess.WORKER, name=f"name-{number}")
    assert len(enforcing.access._known) <= MAX_KNOWN


def test_a_change_of_the_tokens_counts_at_once(enforcing: Subject) -> None:
    enforcing.request("worker", RouteAccess.WORKER)
    in_force = enforcing.access.in_force
    assert in_force.file is not None
    tokens = dict(in_force.file.tokens)
    tokens["w"] = replace(tokens["w"], sha256=(), revoked_sha256=(sha256_of("worker"),), role=Role.WORKER)
    enforcing.access.use(in_force._replace(file=replace(in_force.file, tokens=tokens)))
    with pytest.raises(NotAuthenticated, match="token w is revoked"):
        enforcing.request("worker", RouteAccess.WORKER)


def test_authentication_may_be_required(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--require-auth"):
        Access(None, Mode.OFF, timeout_secs=60, reachable=True, must_authenticate=True)
    assert not Access(None, Mode.OFF, timeout_secs=60, must_authenticate=True).is_open
    with pytest.raises(UsageError, match="no such file"):
        Access(tmp_path / "tokens.toml", Mode.OFF, timeout_secs=60)
