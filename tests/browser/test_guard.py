"""The guard of the pages sees what it is for: otherwise no other test here would prove anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Error, expect

from tests.browser.guard import OUTAGE

if TYPE_CHECKING:
    from tests.browser.conftest import Visitor
    from tests.browser.controllers import Controller

ELSEWHERE = "http://127.0.0.1:9"
"""Nobody is asked there: the policy forbids it, and Chromium does not use this port."""


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("console.log('hello')", "log on the console: hello"),
        ("console.debug('hello')", "debug on the console: hello"),
        ("setTimeout(() => { throw new Error('broken') })", "error of a script: broken"),
        ("void Promise.reject(new Error('broken'))", "error of a script: broken"),
        ("setTimeout(() => alert('hello'))", "dialog: hello"),
        (f"void fetch('{ELSEWHERE}/').catch(() => null)", f"CSP: connect-src forbids {ELSEWHERE}/"),
        (f"void (new Image().src = '{ELSEWHERE}/x.png')", f"CSP: img-src forbids {ELSEWHERE}/x.png"),
        ("document.body.setAttribute('style', 'color: red')", "CSP: style-src-attr forbids inline"),
        ("document.body.append(document.createElement('style')); document.querySelector('style').append('p {}')",
         "CSP: style-src-elem forbids inline"),
        ("try { document.body.innerHTML = '<p>' } catch {}", "CSP: require-trusted-types-for forbids"),
    ],
)  # fmt: skip
def test_a_page_that_misbehaves_is_noticed(visit: Visitor, controller: Controller, script: str, complaint: str) -> None:
    visited = visit(f"{controller.url}/console/")
    expect(visited.page.get_by_role("main")).to_be_visible()
    assert visited.guard.complaints == []
    visited.page.evaluate(f"() => {{ {script} }}")
    visited.page.wait_for_timeout(200)
    assert [line for line in visited.guard.complaints if complaint in line], visited.guard.complaints
    visited.guard.complaints.clear()


def test_a_request_to_another_origin_is_noticed(visit: Visitor, controller: Controller) -> None:
    visited = visit(f"{controller.url}/console/")
    other = visited.page.context.new_page()
    with pytest.raises(Error, match="net::ERR_UNSAFE_PORT"):
        other.goto(f"{ELSEWHERE}/")
    assert visited.guard.complaints == [f"request to another origin: {ELSEWHERE}/"]
    visited.guard.complaints.clear()


def test_a_name_is_not_resolved(visit: Visitor, controller: Controller) -> None:
    """Whatever a page or Chromium itself asks for, nothing leaves this machine."""
    visited = visit(f"{controller.url}/console/")
    with pytest.raises(Error, match="net::ERR_NAME_NOT_RESOLVED"):
        visited.page.context.new_page().goto("http://console.invalid/")
    visited.guard.complaints.clear()


def test_only_what_is_excused_is_excused(visit: Visitor, controller: Controller) -> None:
    visited = visit(f"{controller.url}/console/")
    expect(visited.page.get_by_role("main")).to_be_visible()
    line = "Failed to load resource: net::ERR_CONNECTION_REFUSED"
    with visited.guard.excusing(visited.page, OUTAGE):
        visited.page.evaluate("(line) => { console.error(line); console.error(line + '!'); }", line)
    visited.page.evaluate("(line) => console.error(line)", line)
    assert [complaint.split(" (")[0] for complaint in visited.guard.complaints] == [
        f"error on the console: {line}!",
        f"error on the console: {line}",
    ]
    visited.guard.complaints.clear()
