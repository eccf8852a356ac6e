"""A page in a browser: it signs in with each kind of token in each mode, and changes what it may."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from dbgpt_ctl.auth.tokens import Mode, Role, Token, new_token, sha256_of
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import ControllerApp, create_app
from dbgpt_ctl.controller.auth.page_rights import AUTH_IS_OFF, AUTH_ONLY_LOGS
from dbgpt_ctl.controller.auth.refusal_log import EVERY, MAX_LINES
from dbgpt_ctl.controller.auth.sessions import SignInLog
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from dbgpt_ctl.wire.fields import MAX_TOKEN_CHARS
from tests.support.clock import START
from tests.support.server import running_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SESSION = "/api/v1/session"
MODELS = "/api/controller/models"
KEY: dict[str, Any] = {"model_name": "mine@llm", "host": "127.0.0.1", "port": 8001}
SECRETS = {name: new_token(os.urandom) for name in ("operator", "reader", "worker", "metrics", "unknown", "newer")}
ROLES = ("operator", "reader", "worker", "metrics")
OPEN = {"host": "0.0.0.0"}
NOBODY: dict[str, Any] = {"name": None, "role": None, "expires": None}


class Page:
    """A page of the controller in a browser, which keeps the cookie itself."""

    def __init__(self, app: ControllerApp, client: httpx.Client) -> None:
        self.app = app
        self.client = client
        self.cookie_name = f"ctl_session_{client.base_url.port}"
        origin = f"http://127.0.0.1:{client.base_url.port}"
        self.headers: dict[str, str | None] = {
            "Origin": origin,
            "Sec-Fetch-Site": "same-origin",
            "Sec-Fetch-Mode": "cors",
        }

    def send(
        self, method: str, path: str, fields: dict[str, Any] | None = None, /, **headers: str | None
    ) -> httpx.Response:
        """As `fetch` of the page does; a header that is None is left out."""
        named = self.headers | {name.replace("_", "-").title(): value for name, value in headers.items()}
        if fields is not None:
            named = {"Content-Type": "application/json", **named}
        sent = {name: value for name, value in named.items() if value is not None}
        return self.client.request(method, path, headers=sent, json=fields)

    def sign_in(self, name: str, **headers: str | None) -> httpx.Response:
        return self.send("POST", SESSION, {"token": SECRETS[name]}, **headers)

    def who(self) -> dict[str, Any]:
        reply = self.send("GET", SESSION)
        assert reply.status_code == 200
        return cast("dict[str, Any]", reply.json())

    def drain(self, **headers: str | None) -> httpx.Response:
        return self.send("POST", "/api/v1/drain", {**KEY, "reason": "x"}, **headers)

    def use(self, **tokens: Token) -> None:
        """These tokens instead of the ones of the same name."""
        access = self.app.access
        file = access.in_force.file
        assert file is not None
        access.use(access.in_force._replace(file=replace(file, tokens={**file.tokens, **tokens})))

    def token(self, name: str) -> Token:
        file = self.app.access.in_force.file
        assert file is not None
        return file.tokens[name]

    def counted(self) -> list[tuple[str, str | None, str]]:
        """Reason, token and request of what was refused."""
        rows = self.app.access.refusals.rows()
        return sorted((row.reason.value, row.token, row.action) for row, _ in rows)


@contextmanager
def opened(folder: Path, mode: Mode, **values: Any) -> Iterator[Page]:
    """A page of a controller with one instance. Each answer is validated against the OpenAPI document."""
    file = folder / "tokens.toml"
    file.write_text(
        "\n".join(f'[token.{role}]\nrole = "{role}"\nsha256 = ["{sha256_of(SECRETS[role])}"]\n' for role in ROLES)
    )
    file.chmod(0o600)
    settings = ControllerSettings(auth=mode.value, tokens_file=str(file), **values)
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    app = create_app(settings, registry)
    assert isinstance(app, ControllerApp)
    with running_app(app) as url, httpx.Client(base_url=url, trust_env=False) as client:
        registered = client.post(MODELS, json=KEY, auth=("", SECRETS["operator"]))
        assert registered.status_code == 200
        yield Page(app, client)


@pytest.fixture
def enforcing(tmp_path: Path) -> Iterator[Page]:
    with opened(tmp_path, Mode.ENFORCE, **OPEN) as page:
        yield page


@pytest.mark.parametrize("role", ["operator", "reader", "worker"])
def test_a_page_signs_in_and_may_do_what_its_token_may(enforcing: Page, role: str) -> None:
    before = enforcing.who()
    assert (before["may_read"], before["may_change"]) == (False, False)
    assert enforcing.send("GET", "/api/v1/instances").status_code == 401
    reply = enforcing.sign_in(role)
    assert reply.status_code == 200
    assert reply.headers["cache-control"] == "no-store"
    who = enforcing.who()
    assert reply.json() == who
    assert (who["mode"], who["name"], who["role"], who["may_read"]) == ("enforce", role, role, True)
    assert who["may_change"] == (role == "operator") == (who["read_only_reason"] is None)
    for path in ("/api/v1/instances", "/api/v1/events", "/api/v1/status", MODELS, "/openapi.json"):
        assert enforcing.send("GET", path).status_code == 200, path
        assert enforcing.send("HEAD", path).status_code in {200, 405}, path
    drained = enforcing.drain()
    assert drained.status_code == (200 if who["may_change"] else 403)
    if not who["may_change"]:
        assert drained.json()["reason"] == "role"
        assert who["read_only_reason"] == (
            f"token {role} has the role {role}: sign in with an operator's token to change something"
        )


def test_the_cookie_is_kept_from_scripts_and_other_sites(enforcing: Page) -> None:
    name, _, rest = enforcing.sign_in("reader").headers["set-cookie"].partition("=")
    session_id, *attributes = rest.split("; ")
    assert name == enforcing.cookie_name
    assert len(session_id) == 43
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert SECRETS["reader"] not in repr(enforcing.client.cookies)
    behind = enforcing.sign_in("reader", origin="https://ctl.example")
    assert "Secure" in behind.headers["set-cookie"].split("; ")


def test_an_event_of_a_change_names_the_token(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    assert enforcing.drain().json()["instance"]["drain"]["by"] == "operator (127.0.0.1)"
    assert enforcing.send("POST", "/api/v1/undrain", KEY).status_code == 200
    events = enforcing.send("GET", "/api/v1/events").json()["events"]
    assert [(each["verb"], each["actor"], each["actor_name"]) for each in events if "drain" in each["verb"]] == [
        ("drain", "operator", "operator"),
        ("undrain", "operator", "operator"),
    ]


@pytest.mark.parametrize(
    ("name", "status", "reason", "text"),
    [
        ("unknown", 401, "unknown", "this controller does not know the token"),
        ("metrics", 403, "role", "token metrics has the role metrics, which may not look at the console"),
        ("revoked", 401, "revoked", "token worker is revoked: sign in with another one"),
        ("expired", 401, "expired", "token reader expired at 2020-01-01 00:00:00Z: sign in with another one"),
    ],
)
@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.LOG])
def test_a_token_that_is_not_valid_signs_nobody_in(
    *, tmp_path: Path, mode: Mode, name: str, status: int, reason: str, text: str
) -> None:
    with opened(tmp_path, mode) as page:
        page.use(
            worker=Token("worker", Role.WORKER, revoked_sha256=(sha256_of(SECRETS["worker"]),)),
            reader=replace(page.token("reader"), expires=datetime(2020, 1, 1, tzinfo=UTC)),
        )
        reply = page.sign_in({"revoked": "worker", "expired": "reader"}.get(name, name))
        assert (reply.status_code, reply.json()["reason"]) == (status, reason)
        assert text in reply.json()["detail"]
        assert "set-cookie" not in reply.headers
        assert [(row[0], row[2]) for row in page.counted()] == [(reason, f"POST {SESSION}")]
        assert page.who()["name"] is None
        assert [tally.served for _, tally in page.app.access.refusals.rows()] == [False]


def test_sign_ins_in_log_mode_make_few_lines_between_requests_that_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, Mode.LOG) as page:
        for _ in range(5):
            page.sign_in("unknown")
            page.client.get("/api/v1/status")
    lines = [record.getMessage() for record in caplog.records if record.name == "dbgpt_ctl.auth"]
    assert [line.partition(" from ")[0] for line in lines] == [f"POST {SESSION}", "GET /api/v1/status"]
    assert "is refused: it has an unknown token" in lines[0]
    assert "is served, which enforce mode refuses" in lines[1]


def test_a_challenge_to_a_page_lets_the_browser_open_no_dialog_of_its_own(enforcing: Page) -> None:
    both = 'Basic realm="dbgpt_ctl", Bearer realm="dbgpt_ctl"'
    asked: dict[str, dict[str, str | None]] = {
        "fetch": {},
        "fetch without metadata": {"sec_fetch_mode": None, "x_requested_with": "XMLHttpRequest"},
    }
    for what, headers in asked.items():
        reply = enforcing.send("GET", "/api/v1/instances", **headers)
        assert reply.headers["www-authenticate"] == 'Bearer realm="dbgpt_ctl"', what
    assert enforcing.sign_in("unknown", sec_fetch_mode=None).headers["www-authenticate"].startswith("Bearer")
    for mode in (None, "navigate"):
        assert enforcing.send("GET", "/docs", sec_fetch_mode=mode).headers["www-authenticate"] == both


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "token"),
        ({"token": 1}, 422, "token"),
        ({"token": None}, 422, "token"),
        ({"token": " "}, 422, "token"),
        ({"token": "x" * (MAX_TOKEN_CHARS + 1)}, 422, "token"),
        ({"token": "x", "more": 1}, 422, "more"),
        ({"token": "x" * 70_000}, 413, None),
        ({"token": "\x00\x1b[31m\u202e"}, 401, None),
    ],
)
def test_a_sign_in_is_bounded_and_strict(enforcing: Page, body: Any, status: int, field: str | None) -> None:
    reply = enforcing.send("POST", SESSION, body)
    assert (reply.status_code, reply.json().get("field")) == (status, field)


def test_a_token_may_be_pasted_with_the_name_and_blanks(enforcing: Page) -> None:
    reply = enforcing.send("POST", SESSION, {"token": f" anna:{SECRETS['operator']}\n"})
    assert reply.json()["name"] == "operator"


def test_a_new_sign_in_ends_the_session_before_it(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    first = dict(enforcing.client.cookies)
    enforcing.sign_in("reader")
    assert enforcing.who()["name"] == "reader"
    enforcing.client.cookies.clear()
    enforcing.client.cookies.update(first)
    assert enforcing.who()["name"] is None
    assert len(enforcing.app.access.sessions) == 1


def test_who_signs_out_is_nobody_and_the_browser_forgets_the_cookie(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    cookies = dict(enforcing.client.cookies)
    reply = enforcing.send("DELETE", SESSION, {})
    assert reply.status_code == 200
    assert reply.json() == enforcing.who()
    assert not enforcing.client.cookies
    enforcing.client.cookies.update(cookies)
    assert enforcing.drain().status_code == 401
    assert enforcing.who() | {"version": 1} == {
        **NOBODY,
        "version": 1,
        "mode": "enforce",
        "may_read": False,
        "may_change": False,
        "read_only_reason": "nobody is signed in here: sign in with a token",
    }
    assert enforcing.send("DELETE", SESSION, {}).status_code == 200


@pytest.mark.parametrize("case", ["revoked", "expired", "rotated away", "role", "removed"])
def test_a_session_ends_with_its_token(enforcing: Page, case: str) -> None:
    enforcing.sign_in("operator")
    token = enforcing.token("operator")
    secret = token.sha256
    newer = sha256_of(SECRETS["newer"])
    changed, status, reason = {
        "revoked": (replace(token, sha256=(), revoked_sha256=secret), 401, "revoked"),
        "expired": (replace(token, expires=datetime(2020, 1, 1, tzinfo=UTC)), 401, "expired"),
        "rotated away": (replace(token, sha256=(newer,), revoked_sha256=secret), 401, "revoked"),
        "role": (replace(token, role=Role.METRICS), 403, "role"),
        "removed": (replace(token, sha256=(newer,)), 401, "unknown"),
    }[case]
    enforcing.use(operator=changed)
    for reply in (enforcing.drain(), enforcing.send("GET", "/api/v1/instances")):
        assert (reply.status_code, reply.json()["reason"]) == (status, reason)
    who = enforcing.who()
    assert (who["may_read"], who["may_change"]) == (False, False)
    assert who["name"] == ("operator" if case == "role" else None)
    assert who["read_only_reason"]
    assert {row[0] for row in enforcing.counted()} == {reason}


def test_a_token_that_is_being_rotated_keeps_its_session(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    token = enforcing.token("operator")
    enforcing.use(operator=replace(token, sha256=(sha256_of(SECRETS["newer"]), *token.sha256)))
    assert enforcing.drain().status_code == 200


def test_the_answer_says_when_the_session_ends(enforcing: Page) -> None:
    ends = datetime.fromisoformat(enforcing.sign_in("operator").json()["expires"])
    assert timedelta(hours=11, minutes=50) < ends - datetime.now(UTC) <= timedelta(hours=12)
    sooner = datetime.now(UTC) + timedelta(hours=1)
    enforcing.use(operator=replace(enforcing.token("operator"), expires=sooner))
    assert datetime.fromisoformat(enforcing.who()["expires"]) == sooner


CROSS_SITE: dict[str, dict[str, str | None]] = {
    "no origin": {"origin": None, "sec_fetch_site": None},
    "no origin, yet the site": {"origin": None},
    "another site": {"origin": "http://evil.example", "sec_fetch_site": "cross-site"},
    "another site, old browser": {"origin": "http://evil.example", "sec_fetch_site": None},
    "another port": {"origin": "http://127.0.0.1:1", "sec_fetch_site": "same-site"},
    "another port, old browser": {"origin": "http://127.0.0.1:1", "sec_fetch_site": None},
    "a sandbox": {"origin": "null", "sec_fetch_site": "cross-site"},
    "a sandbox, old browser": {"origin": "null", "sec_fetch_site": None},
    "a form": {"content_type": "application/x-www-form-urlencoded"},
    "text": {"content_type": "text/plain"},
    "text that looks like JSON": {"content_type": "text/plain; application/json"},
    "no type": {"content_type": ""},
}


@pytest.mark.parametrize("case", CROSS_SITE)
@pytest.mark.parametrize("mode", [Mode.ENFORCE, Mode.LOG])
def test_a_change_with_a_cookie_comes_from_a_page_of_this_controller(tmp_path: Path, mode: Mode, case: str) -> None:
    with opened(tmp_path, mode, **OPEN) as page:
        page.sign_in("operator")
        for method, path in (("POST", "/api/v1/drain"), ("DELETE", MODELS), ("POST", MODELS), ("DELETE", SESSION)):
            reply = page.send(method, path, KEY, **CROSS_SITE[case])
            assert (reply.status_code, reply.json()["code"]) == (403, "foreign_origin"), (method, path)
        assert page.send("GET", "/api/v1/instances", **CROSS_SITE[case]).status_code == 200
        assert page.who()["name"] == "operator"
        assert page.send("GET", "/api/v1/instances").json()["instances"][0]["drain"] is None


def test_an_instance_is_deregistered_by_a_page_with_a_type(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    query = "model_name=mine%40llm&host=127.0.0.1&port=8001"
    assert enforcing.send("DELETE", f"{MODELS}?{query}").json()["code"] == "foreign_origin"
    assert enforcing.send("DELETE", f"{MODELS}?{query}", content_type="application/json").status_code == 200


PROXIES: dict[str, dict[str, str | None]] = {
    "that changes Host": {"origin": "https://ctl.example", "host": "localhost"},
    "that keeps Host, old browser": {"origin": "http://ctl.localhost", "host": "ctl.localhost", "sec_fetch_site": None},
    "with an address of the client": {"x_forwarded_for": "10.0.0.7", "origin": "https://ctl.example"},
}


@pytest.mark.parametrize("case", PROXIES)
def test_a_page_behind_a_proxy_signs_in_and_changes(tmp_path: Path, case: str) -> None:
    with opened(tmp_path, Mode.ENFORCE, trusted_proxies="127.0.0.0/8") as page:
        signed_in = page.sign_in("operator", **PROXIES[case])
        assert signed_in.status_code == 200
        cookie = signed_in.headers["set-cookie"].partition(";")[0]
        reply = page.drain(**PROXIES[case], cookie=cookie)
        address = PROXIES[case].get("x_forwarded_for", "127.0.0.1")
        assert reply.json()["instance"]["drain"]["by"] == f"operator ({address})"


def test_the_cookie_of_another_port_does_nothing(enforcing: Page) -> None:
    cookie = enforcing.sign_in("operator").headers["set-cookie"].partition(";")[0]
    enforcing.client.cookies.clear()
    assert enforcing.drain(cookie=cookie).status_code == 200
    other = cookie.replace(enforcing.cookie_name, "ctl_session_1")
    assert enforcing.drain(cookie=other).status_code == 401
    assert enforcing.send("GET", SESSION, cookie=other).json()["name"] is None
    assert enforcing.drain(cookie=f"{other}; {cookie}").status_code == 200


@pytest.mark.parametrize(
    "cookie",
    [
        "NAME=" + "x" * 43,
        "NAME=",
        "NAME",
        "NAME=" + "a; NAME=" * 2_000,
        "\x80\xff;\xa0=;;;NAME=\xfe" + "A" * 42,
        "NAME=" + "../" * 14 + "x",
    ],
)
def test_a_hostile_cookie_is_none(enforcing: Page, cookie: str) -> None:
    enforcing.sign_in("operator")
    enforcing.client.cookies.clear()
    sent = {b"Cookie": cookie.replace("NAME", enforcing.cookie_name).encode("latin-1")}
    reply = enforcing.client.get("/api/v1/instances", headers=sent)
    assert (reply.status_code, reply.json()["reason"]) == (401, "none")


def test_a_token_in_a_header_goes_before_the_cookie(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    reader = f"Bearer {SECRETS['reader']}"
    assert enforcing.drain(authorization=reader).json()["reason"] == "role"
    who = enforcing.send("GET", SESSION, authorization=reader).json()
    assert (who["name"], who["expires"]) == ("reader", None)
    assert enforcing.drain(authorization=f"Bearer {SECRETS['unknown']}").json()["reason"] == "unknown"
    programs = {"authorization": f"Bearer {SECRETS['operator']}", "origin": None, "sec_fetch_site": None}
    assert enforcing.drain(**programs).status_code == 200


@pytest.mark.parametrize(("settings", "reachable"), [({}, False), (OPEN, True)])
def test_with_authentication_off_pages_of_a_reachable_controller_only_read(
    tmp_path: Path, settings: dict[str, Any], *, reachable: bool
) -> None:
    with opened(tmp_path, Mode.OFF, **settings) as page:
        reason = AUTH_IS_OFF if reachable else None
        assert page.who() == {
            **NOBODY,
            "version": 1,
            "mode": "off",
            "may_read": True,
            "may_change": not reachable,
            "read_only_reason": reason,
        }
        assert page.send("GET", "/api/v1/instances").status_code == 200
        reply = page.sign_in("operator")
        assert (reply.status_code, reply.json()["code"]) == (409, "authentication_is_off")
        assert page.send("DELETE", SESSION, {}).status_code == 200
        for method, path in (("POST", "/api/v1/drain"), ("POST", "/api/controller/heartbeat"), ("POST", MODELS)):
            changed = page.send(method, path, KEY)
            assert changed.status_code == (403 if reachable else 200), path
            if reachable:
                assert (changed.json()["code"], changed.json()["detail"]) == ("read_only_page", AUTH_IS_OFF)
            assert page.send(method, path, KEY, origin=None, sec_fetch_site=None).status_code == 200, path


def test_in_log_mode_pages_of_a_reachable_controller_need_an_operator(tmp_path: Path) -> None:
    with opened(tmp_path, Mode.LOG, **OPEN) as page:
        for name in (None, "reader", "worker", "operator"):
            if name is not None:
                assert page.sign_in(name).status_code == 200
            who, is_operator = page.who(), name == "operator"
            assert (who["mode"], who["name"], who["may_read"]) == ("log", name, True)
            assert (who["may_change"], who["read_only_reason"]) == (
                is_operator,
                None if is_operator else AUTH_ONLY_LOGS,
            )
            reply = page.drain()
            assert reply.status_code == (200 if is_operator else 403)
            if not is_operator:
                assert reply.json()["code"] == "read_only_page"
        page.client.cookies.clear()
        assert page.drain(authorization=f"Bearer {SECRETS['operator']}").status_code == 200
        assert page.drain(origin=None, sec_fetch_site=None).status_code == 200  # a program is served and counted


def test_in_log_mode_pages_of_this_machine_change_what_they_like(tmp_path: Path) -> None:
    with opened(tmp_path, Mode.LOG) as page:
        assert page.who()["may_change"]
        assert page.drain().status_code == 200
        page.sign_in("reader")
        assert page.who()["may_change"]
        assert page.drain().status_code == 200


def test_a_session_outlives_a_change_of_the_mode(enforcing: Page) -> None:
    enforcing.sign_in("operator")
    access = enforcing.app.access
    access.use(access.in_force._replace(mode=Mode.OFF))
    assert enforcing.who()["name"] is None
    assert enforcing.drain().json()["code"] == "read_only_page"
    access.use(access.in_force._replace(mode=Mode.ENFORCE))
    assert enforcing.drain().status_code == 200


def test_without_a_console_there_is_no_session(tmp_path: Path) -> None:
    with opened(tmp_path, Mode.ENFORCE, no_console=True) as page:
        assert [path for path in page.app.openapi()["paths"] if path.startswith(SESSION)] == []


def test_neither_the_log_nor_an_answer_holds_the_token_or_the_id(
    enforcing: Page, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reply = enforcing.sign_in("operator")
    session_id = reply.headers["set-cookie"].partition("=")[2].partition(";")[0]
    enforcing.sign_in("unknown")
    enforcing.drain()
    assert "token operator has signed in at the console from 127.0.0.1" in caplog.text
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("dbgpt_ctl")]
    assert len(logged) >= 2
    for secret in (session_id, *SECRETS.values()):
        assert secret not in str(logged)
        assert secret not in reply.text


def test_many_sign_ins_accepted_or_refused_make_few_lines(enforcing: Page, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("operator", "unknown", "reader") * 30:
        enforcing.sign_in(name)
    of_sign_ins = ("session.signed_in", "auth.refused")
    lines = [record for record in caplog.records if getattr(record, "event", None) in of_sign_ins]
    assert [record.__dict__["actor_name"] for record in lines] == ["operator", None, "reader"]


def test_each_token_and_address_has_a_line_and_the_others_a_sum(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = SignInLog()
    for source in ("10.0.0.4", "10.0.0.5", "10.0.0.4", None, "10.0.0.4"):
        log.note("anna", source, START)
    assert [message.rpartition(" ")[2] for message in caplog.messages] == ["10.0.0.4", "10.0.0.5", "-"]
    log.tick(START + EVERY - timedelta(seconds=1))
    log.tick(START + EVERY)
    log.tick(START + 2 * EVERY)
    assert caplog.messages[3:] == ["2 more sign-ins at the console in the last minute"]
    log.note("anna", "10.0.0.4", START + 3 * EVERY)
    assert len(caplog.messages) == 5


def test_a_flood_of_addresses_makes_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = SignInLog()
    for number in range(MAX_LINES + 1):
        log.note("anna", f"2001:db8::{number:x}", START)
    log.tick(START - EVERY)  # the clock was set back
    assert len(caplog.messages) == MAX_LINES + 1
    assert caplog.messages[-1].startswith("1 more sign-in ")
