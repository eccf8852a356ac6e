"""Who looks: sign-in, the cookie, and each way in which a session ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.browser.guard import REFUSED
from tests.support.dbgpt_process import until

if TYPE_CHECKING:
    from tests.browser.conftest import NewController, Visit, Visitor
    from tests.browser.controllers import Controller
    from tests.browser.tokens import Tokens

KEY = InstanceKey("qwen@llm", "127.0.0.9", 8001)
EXPIRES_SECS = 5
ASKED_AGAIN_MS = 10_000
ENDED = "Your session has ended"


@pytest.fixture
def registered(enforcing: Controller, tokens: Tokens) -> None:
    with ControllerClient(enforcing.url.replace("//", f"//gpu:{tokens.worker}@")) as client:
        client.register(Registration(KEY))


@pytest.fixture
def stranger(visit: Visitor, enforcing: Controller, registered: None) -> Visit:
    """Nobody is signed in, and there is an instance to see."""
    return visit(f"{enforcing.url}/console/")


def test_a_stranger_sees_nothing_and_asks_for_nothing(stranger: Visit) -> None:
    expect(stranger.console.dialog).to_be_visible()
    expect(stranger.page.locator("body")).not_to_contain_text("qwen")
    assert {request for request in stranger.guard.requests if "/api/" in request} == {"GET /api/v1/session"}


def test_a_wrong_token_is_refused_with_a_reason(stranger: Visit, tokens: Tokens) -> None:
    with stranger.guard.excusing(stranger.page, REFUSED):
        stranger.console.sign_in(tokens.operator[:-1])
        expect(stranger.console.dialog.get_by_role("alert")).to_contain_text("token")
    stranger.console.sign_in(tokens.operator)
    stranger.console.signed_in_as("anna (operator)")
    expect(stranger.console.dialog).to_have_count(0)
    expect(stranger.console.model(KEY.model_name)).to_be_visible()


def test_the_token_is_kept_nowhere(stranger: Visit, tokens: Tokens, enforcing: Controller) -> None:
    stranger.console.sign_in(tokens.reader)
    stranger.console.signed_in_as("ben (reader)")
    [cookie] = stranger.page.context.cookies()
    assert cookie["name"] == f"ctl_session_{enforcing.port}"
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    secret = tokens.reader.removeprefix("dctl_")
    assert secret not in cookie["value"]
    kept = stranger.page.evaluate("() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert kept == '[{},{},""]'
    assert secret not in stranger.page.content()
    expect(stranger.page.get_by_label("Token")).to_have_value("")


def test_a_session_survives_a_reload_and_another_window(stranger: Visit, tokens: Tokens, enforcing: Controller) -> None:
    stranger.console.sign_in(tokens.reader)
    stranger.console.signed_in_as("ben (reader)")
    stranger.page.reload()
    stranger.console.signed_in_as("ben (reader)")
    other = stranger.page.context.new_page()
    other.goto(f"{enforcing.url}/console/instances")
    expect(other.get_by_role("banner")).to_contain_text("ben (reader)")


def test_sign_out(stranger: Visit, tokens: Tokens, enforcing: Controller) -> None:
    stranger.console.sign_in(tokens.operator)
    stranger.console.signed_in_as("anna (operator)")
    [cookie] = stranger.page.context.cookies()
    with stranger.guard.excusing(stranger.page, REFUSED):  # what was on its way when the session ended
        stranger.page.get_by_role("button", name="Sign out").click()
        expect(stranger.console.dialog.get_by_label("Token")).to_be_visible()
    expect(stranger.page.locator("main")).not_to_contain_text("qwen")
    assert stranger.page.context.cookies() == []
    old = httpx.get(f"{enforcing.url}/api/v1/instances", headers={"Cookie": f"{cookie['name']}={cookie['value']}"})
    assert old.status_code == 401


def test_a_session_ends_when_the_token_expires(stranger: Visit, tokens: Tokens, enforcing: Controller) -> None:
    token = tokens.create("guest", "operator", "--expires", f"{EXPIRES_SECS}s")
    until("token", lambda: status_with(enforcing, token) == 200)
    stranger.console.sign_in(token)
    stranger.console.signed_in_as("guest (operator)")
    with stranger.guard.excusing(stranger.page, REFUSED):
        until("end of the token", lambda: status_with(enforcing, token) == 401)
        has_ended(stranger)


def test_a_session_ends_when_the_token_is_revoked(stranger: Visit, tokens: Tokens, enforcing: Controller) -> None:
    stranger.console.sign_in(tokens.operator)
    stranger.console.signed_in_as("anna (operator)")
    tokens.revoke("anna")
    with stranger.guard.excusing(stranger.page, REFUSED):
        until("end of the token", lambda: status_with(enforcing, tokens.operator) == 401)
        has_ended(stranger)
    stranger.console.sign_in(tokens.reader)
    stranger.console.signed_in_as("ben (reader)")
    expect(stranger.console.model(KEY.model_name)).to_be_visible()


def status_with(controller: Controller, token: str) -> int:
    """What the controller answers to a command with this token."""
    return httpx.get(f"{controller.url}/api/v1/instances", headers={"Authorization": f"Bearer {token}"}).status_code


def has_ended(visited: Visit) -> None:
    """The page asks for a token, says why, and shows no instances any more."""
    expect(visited.console.dialog).to_contain_text(ENDED)
    expect(visited.page.locator("main")).not_to_contain_text("qwen")


def test_without_authentication_there_is_nothing_to_sign_in_to(visit: Visitor, controller: Controller) -> None:
    visited = visit(f"{controller.url}/console/")
    visited.console.signed_in_as("authentication is off")
    expect(visited.page.get_by_role("button", name="Sign in")).to_have_count(0)
    expect(visited.page.get_by_role("button", name="Sign out")).to_have_count(0)


def test_the_dialog_stays_while_a_person_types(visit: Visitor, new_controller: NewController, tokens: Tokens) -> None:
    """A controller that only logs lets everybody look. The page asks who is signed in every five seconds."""
    tokens.mode("log")
    visited = visit(f"{new_controller('--tokens-file', str(tokens.path)).url}/console/")
    visited.page.get_by_role("button", name="Sign in").click()
    field = visited.console.dialog.get_by_label("Token")
    for part in (tokens.reader[:9], tokens.reader[9:]):
        field.press_sequentially(part)
        with visited.page.expect_response("**/api/v1/session", timeout=ASKED_AGAIN_MS):
            pass
        with visited.page.expect_response("**/api/v1/status", timeout=ASKED_AGAIN_MS):
            pass  # what came before it has been taken
    visited.console.dialog.get_by_role("button", name="Sign in").click()
    visited.console.signed_in_as("ben (reader)")
    expect(visited.console.dialog).to_have_count(0)
