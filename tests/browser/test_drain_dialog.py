"""The dialog of a drain while it works: refused instances, a stop, and where the focus goes."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.browser.guard import REFUSED

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Route

    from tests.browser.conftest import NewController, Visit, Visitor
    from tests.browser.controllers import Controller

KEYS = [InstanceKey("qwen@llm", f"10.0.0.{number}", 8001) for number in range(1, 31)]
PROBLEM = "the instance is <b>busy</b>"


@pytest.fixture
def controller(new_controller: NewController) -> Controller:
    controller = new_controller()
    with ControllerClient(controller.url) as client:
        for key in KEYS:
            client.register(Registration(key))
    return controller


@pytest.fixture
def instances(visit: Visitor, controller: Controller) -> Visit:
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.rows).to_have_count(len(KEYS))
    return visited


def selected(instances: Visit) -> Locator:
    return instances.page.get_by_role("group", name="Selection")


def open_dialog(instances: Visit, keys: list[InstanceKey]) -> Locator:
    instances.console.select(keys)
    instances.page.get_by_role("button", name="Drain…", exact=True).click()
    return instances.console.dialog


def refuse(route: Route) -> None:
    """Refuses the first instance, and lets the controller answer the others."""
    if KEYS[0].host in json.loads(route.request.post_data or "{}").values():
        route.fulfill(status=409, json={"detail": PROBLEM})
    else:
        route.continue_()


def test_a_refused_instance_says_why_and_the_others_go_on(instances: Visit) -> None:
    page = instances.page
    page.route("**/api/v1/drain", refuse)
    with instances.guard.excusing(page, REFUSED):
        dialog = open_dialog(instances, KEYS[:6])
        dialog.get_by_role("button", name="Drain 6 instances").click()
        expect(dialog).to_contain_text("5 of 6 instances drained, 1 refused.")
        expect(dialog).to_contain_text(f"qwen@llm/10.0.0.1:8001: {PROBLEM}")
    page.unroute("**/api/v1/drain")
    dialog.get_by_role("button", name="Try 1 instance again").click()
    expect(dialog).to_have_count(0)
    expect(page.locator(".message")).to_have_text("6 instances drained.")
    expect(selected(instances)).to_contain_text("0 selected")


def test_a_refused_instance_stays_selected(instances: Visit) -> None:
    instances.page.route("**/api/v1/drain", refuse)
    with instances.guard.excusing(instances.page, REFUSED):
        dialog = open_dialog(instances, KEYS[:2])
        dialog.get_by_role("button", name="Drain 2 instances").click()
        expect(dialog).to_contain_text("1 of 2 instances drained, 1 refused.")
    dialog.get_by_role("button", name="Close").click()
    expect(selected(instances)).to_contain_text("1 selected")
    expect(instances.console.row(KEYS[0]).get_by_role("checkbox")).to_be_checked()


def test_stop_leaves_the_instances_that_were_not_asked_for_as_they_are(instances: Visit) -> None:
    """The four calls that are under way are answered; no other is made."""
    page, dialog = instances.page, instances.console.dialog
    held: list[Route] = []
    asked = itertools.count(1)
    page.route("**/api/v1/drain", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks its handlers
    page.get_by_role("button", name="Select all 30").click()
    page.get_by_role("button", name="Drain…", exact=True).click()
    with page.expect_request(lambda request: request.url.endswith("/drain") and next(asked) == 4):
        dialog.get_by_role("button", name="Drain 30 instances all the same").click()
    expect(dialog.get_by_role("progressbar")).to_be_visible()
    dialog.get_by_role("button", name="Stop").click()
    for route in held:
        route.continue_()
    expect(page.locator(".message")).to_have_text("4 of 30 instances drained. 26 others stayed as before.")
    expect(selected(instances)).to_contain_text("26 selected")
    assert len(held) == 4


def test_an_instance_that_vanishes_leaves_the_selection_and_the_dialog(
    instances: Visit, controller: Controller
) -> None:
    dialog = open_dialog(instances, KEYS[:2])
    with ControllerClient(controller.url) as client:
        client.deregister(KEYS[1], remove=True)
    expect(dialog.get_by_role("heading")).to_have_text("Drain 1 instance")
    expect(dialog).not_to_contain_text("10.0.0.2:8001")
    instances.page.keyboard.press("Escape")
    expect(selected(instances)).to_contain_text("1 selected")


def test_the_focus_goes_back_to_where_it_was(instances: Visit) -> None:
    open_dialog(instances, KEYS[:1])
    instances.page.keyboard.press("Escape")
    button = instances.page.get_by_role("button", name="Drain…", exact=True)
    expect(button).to_be_focused()
    button.click()
    instances.console.dialog.get_by_role("button", name="Drain 1 instance").click()
    expect(button).to_be_disabled()
    expect(instances.page.get_by_role("heading", level=1)).to_be_focused()


def test_what_is_typed_in_the_field_of_the_host_stays(instances: Visit, controller: Controller) -> None:
    """It filters when it is complete, so until then the URL does not have it."""
    field = instances.page.get_by_label("Host", exact=True)
    field.press_sequentially("10.0.0.1")
    with ControllerClient(controller.url) as client:
        client.register(Registration(InstanceKey("qwen@llm", "10.0.0.99", 8001)))
    expect(instances.console.rows).to_have_count(len(KEYS) + 1)
    expect(field).to_have_value("10.0.0.1")
    field.press("Enter")
    expect(instances.console.rows).to_have_count(1)


def test_a_text_that_cannot_be_copied_is_selected(instances: Visit) -> None:
    """Over plain HTTP from another machine a page has no clipboard."""
    page = instances.page
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    instances.console.row(KEYS[0]).get_by_role("link").click()
    copy = page.get_by_role("button", name="Copy ctl").first
    copy.click()
    expect(page.get_by_role("button", name="Selected: copy it with the keyboard").first).to_be_visible()
    assert "models get qwen@llm/10.0.0.1:8001" in page.evaluate("String(getSelection())")


def test_an_instance_that_was_removed_and_one_that_never_was(instances: Visit, controller: Controller) -> None:
    page = instances.page
    instances.console.row(KEYS[0]).get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("qwen@llm/10.0.0.1:8001")
    with ControllerClient(controller.url) as client:
        client.deregister(KEYS[0], remove=True)
    expect(page.get_by_text("This instance is not registered now. It was removed.")).to_be_visible()
    page.goto(f"{controller.url}/console/instance?model_name=none@llm&host=h&port=1")
    expect(page.get_by_text("It was never registered here")).to_be_visible()
    page.goto(f"{controller.url}/console/instance?model_name=none@llm")
    expect(page.get_by_text("The address of this page names no instance")).to_be_visible()
