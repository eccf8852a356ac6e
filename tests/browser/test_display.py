"""What the page looks like for different people: small windows, little motion, other time zones."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import expect

from dbgpt_ctl.domain.instance import InstanceKey, Registration

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import NewController, Visit, Visitor
    from tests.browser.controllers import Controller
    from tests.support.fleet import Fleet

NAME = "a-model-with-a-very-long-name-that-does-not-end-soon-and-has-no-place-to-break@llm"
LONG = InstanceKey(NAME, "[fd00::1:2:3:4]", 8001)
VIEWS = ("Overview", "Instances", "Events", "This controller")
LEAST_WIDTH = 360


@pytest.fixture
def populated(controller: Controller, workers: Fleet) -> Controller:
    """With an instance of a long name that is drained for a long reason, and one that is not."""
    workers.client.register(Registration(LONG))
    workers.client.drain(LONG, reason="a reason that explains much and takes more than one line on any telephone " * 3)
    workers.start("qwen@llm")
    return controller


def open_view(visited: Visit, view: str) -> None:
    if view == "One instance":
        visited.console.go("Instances")
        visited.console.row(LONG).get_by_role("link").click()
        expect(visited.page.get_by_role("heading", level=1)).to_contain_text("a-model")
    else:
        visited.console.go(view)


def too_wide(page: Page) -> list[str]:
    """The elements that make the page itself scroll to the side."""
    found: list[str] = page.evaluate(
        """() => document.documentElement.scrollWidth <= innerWidth ? [] :
            [...document.querySelectorAll("body *")]
                .filter((each) => each.getBoundingClientRect().right > innerWidth && !each.closest(".scroll"))
                .map((each) => `${each.tagName}.${each.className}: ${each.getBoundingClientRect().right}`)"""
    )
    return found


@pytest.mark.parametrize("view", [*VIEWS, "One instance"])
@pytest.mark.parametrize("width", [LEAST_WIDTH, 768, 1920])
def test_no_view_scrolls_to_the_side(visit: Visitor, populated: Controller, view: str, width: int) -> None:
    visited = visit(f"{populated.url}/console/", viewport={"width": width, "height": 740})
    open_view(visited, view)
    expect(visited.console.live).to_be_visible()
    assert too_wide(visited.page) == []


def test_dialogs_fit_in_a_small_window(visit: Visitor, populated: Controller) -> None:
    visited = visit(f"{populated.url}/console/instances", viewport={"width": LEAST_WIDTH, "height": 640})
    visited.console.select([LONG])
    visited.page.get_by_role("button", name="Drain…", exact=True).click()
    box = visited.console.dialog.bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= LEAST_WIDTH
    assert too_wide(visited.page) == []
    visited.page.keyboard.press("Escape")
    visited.page.keyboard.press("?")
    expect(visited.console.dialog.get_by_role("button", name="Close")).to_be_in_viewport()


@pytest.mark.parametrize("view", [*VIEWS, "One instance"])
def test_nothing_moves_for_those_who_want_little_motion(visit: Visitor, populated: Controller, view: str) -> None:
    visited = visit(f"{populated.url}/console/", reduced_motion="reduce")
    open_view(visited, view)
    moving = visited.page.evaluate(
        """() => [...document.querySelectorAll("*")].filter((each) => {
            const style = getComputedStyle(each);
            const moves = style.transitionDuration.split(", ").some((time) => parseFloat(time) > 0);
            return moves || style.animationName !== "none" || style.scrollBehavior === "smooth";
        }).map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert moving == []


def test_times_are_in_the_zone_of_the_viewer_and_in_utc_on_hover(visit: Visitor, populated: Controller) -> None:
    visited = visit(f"{populated.url}/console/events", timezone_id="Asia/Kolkata", locale="en-GB")
    shown = visited.page.locator("main tbody tr time").first
    expect(shown).to_be_visible()
    time = datetime.fromisoformat(str(shown.get_attribute("datetime"))).astimezone(UTC)
    expect(shown).to_have_attribute("title", re.compile(rf"{time:%Y-%m-%d %H:%M:%S} UTC"))
    local = visited.page.evaluate(
        "(time) => new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' }).format(new Date(time))",
        time.isoformat(),
    )
    both = f"{shown.inner_text()} {shown.get_attribute('title')}"
    assert local in both
    assert f"{time:%H:%M}" != local


def test_ages_grow_while_nothing_else_happens(visit: Visitor, populated: Controller) -> None:
    visited = visit(f"{populated.url}/console/instances")
    age = visited.console.row(LONG).locator("td.heartbeat, [data-label='Last heartbeat']").first
    expect(age).to_have_text(re.compile(r"^[0-3]s ago$"))
    expect(age).to_have_text(re.compile(r"^[4-9]s ago$"), timeout=8000)


def test_each_view_has_a_title_and_is_marked_in_the_navigation(visit: Visitor, populated: Controller) -> None:
    visited = visit(f"{populated.url}/console/")
    for view in VIEWS:
        visited.console.go(view)
        expect(visited.page).to_have_title(re.compile(rf"^{view}"))
        current = visited.page.get_by_role("navigation", name="Views").locator("[aria-current=page]")
        expect(current).to_have_text(view)


def test_without_a_console_there_is_none(new_controller: NewController) -> None:
    controller = new_controller("--no-console")
    for path in ("/console", "/console/", "/console/main.js", "/console/instances", "/", "/api/v1/session"):
        answer = httpx.get(f"{controller.url}{path}", headers={"Accept": "text/html"}, trust_env=False)
        assert answer.status_code == 404, path


def test_the_root_leads_a_browser_to_the_console(visit: Visitor, controller: Controller) -> None:
    visited = visit(f"{controller.url}/")
    expect(visited.page).to_have_url(f"{controller.url}/console/")
    expect(visited.page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_an_ipv6_address_has_brackets_once(visit: Visitor, populated: Controller) -> None:
    visited = visit(f"{populated.url}/console/instances")
    expect(visited.console.row(LONG).get_by_role("link")).to_have_text("[fd00::1:2:3:4]:8001")
