"""The list of instances: filters in the URL, sort, pages, and what a person holds on to while rows change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.browser.controllers import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

    from tests.browser.conftest import Visit, Visitor
    from tests.browser.controllers import Controller

MANY = 5000
PAGE_SIZE = 100
LOAD_MS = 10_000
MODELS = ("qwen@llm", "bge@text2vec", "rank@reranker", "glm@llm")
DRAINED = InstanceKey("glm@llm", "10.0.0.3", 8003)


@dataclass(frozen=True)
class Crowd:
    """A controller with MANY instances that live as long as the tests. One is drained."""

    controller: Controller
    client: ControllerClient


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    folder = tmp_path_factory.mktemp("crowd")
    with (
        running_controller(folder, "--heartbeat-timeout-secs", "3600") as controller,
        ControllerClient(controller.url) as client,
    ):
        for number in range(MANY):
            client.register(Registration(key_number(number)))
        client.drain(DRAINED, reason="new driver")
        yield Crowd(controller, client)


def key_number(number: int) -> InstanceKey:
    return InstanceKey(MODELS[number % len(MODELS)], f"10.0.{number // 250}.{number % 250}", 8000 + number % 250)


@pytest.fixture
def instances(visit: Visitor, crowd: Crowd) -> Visit:
    visited = visit(f"{crowd.controller.url}/console/instances")
    expect(visited.console.rows).to_have_count(PAGE_SIZE, timeout=LOAD_MS)
    return visited


def filter_of(visited: Visit, label: str) -> Locator:
    return visited.page.get_by_role("search").get_by_label(label, exact=True)


def count_is(visited: Visit, text: str) -> None:
    expect(visited.page.locator("main .counts")).to_contain_text(text)


def test_each_page_has_a_hundred_rows(instances: Visit) -> None:
    count_is(instances, "5,000 instances")
    pages = instances.page.get_by_role("navigation", name="Pages")
    first = instances.console.rows.first.get_attribute("data-key")
    expect(pages).to_contain_text("Page 1 of 50")
    pages.get_by_role("button", name="Next").click()
    expect(pages).to_contain_text("Page 2 of 50")
    expect(instances.page).to_have_url(re.compile(r"[?&]page=2$"))
    expect(instances.console.rows.first).not_to_have_attribute("data-key", str(first))
    pages.get_by_role("button", name="Last").click()
    expect(pages).to_contain_text("Page 50 of 50")
    expect(pages.get_by_role("button", name="Next")).to_be_disabled()
    expect(instances.console.rows).to_have_count(PAGE_SIZE)
    instances.page.go_back()
    expect(pages).to_contain_text("Page 2 of 50")
    instances.page.go_back()
    expect(instances.console.rows.first).to_have_attribute("data-key", str(first))


def test_filters_are_in_the_url_and_the_back_button_undoes_them(instances: Visit) -> None:
    page = instances.page
    filter_of(instances, "Filter").press_sequentially("10.0.7.1")
    count_is(instances, "111 of 5,000")  # 10.0.7.1, 10.0.7.10 to 19, and 10.0.7.100 to 199
    expect(page).to_have_url(re.compile(r"/instances\?q=10\.0\.7\.1$"))
    filter_of(instances, "Type").select_option("reranker")
    count_is(instances, "27 of 5,000")
    expect(page).to_have_url(re.compile(r"type=reranker"))
    page.go_back()
    count_is(instances, "111 of 5,000")
    expect(filter_of(instances, "Type")).to_have_value("")
    page.go_forward()
    count_is(instances, "27 of 5,000")
    page.reload()
    count_is(instances, "27 of 5,000")
    expect(filter_of(instances, "Filter")).to_have_value("10.0.7.1")
    page.get_by_role("button", name="Clear the filter").click()
    count_is(instances, "5,000 instances")


@pytest.mark.parametrize(
    ("label", "value", "count"),
    [
        ("Model", "bge@text2vec", "1,250 of 5,000"),
        ("Type", "llm", "2,500 of 5,000"),
        ("State", "healthy", "5,000 instances"),
        ("State", "routable", "4,999 of 5,000"),
        ("Drained", "yes", "1 of 5,000"),
    ],
)
def test_each_filter(instances: Visit, label: str, value: str, count: str) -> None:
    filter_of(instances, label).select_option(value)
    count_is(instances, count)


def test_the_filter_of_hosts_takes_patterns(instances: Visit) -> None:
    filter_of(instances, "Host").fill("10.0.1?.7")
    filter_of(instances, "Host").press("Enter")
    count_is(instances, "10 of 5,000")


def test_a_filter_without_a_match_says_so_and_can_be_cleared(instances: Visit) -> None:
    filter_of(instances, "Filter").fill("nothing has this name")
    main = instances.page.get_by_role("main")
    expect(main).to_contain_text("No instance matches the filter.")
    main.get_by_text("No instance matches the filter.").locator("xpath=..").get_by_role("button").click()
    count_is(instances, "5,000 instances")


def test_sort(instances: Visit) -> None:
    page = instances.page
    page.get_by_role("columnheader").get_by_role("button", name="Host and port").click()
    expect(instances.console.rows.first).to_contain_text("10.0.0.0:8000")
    expect(page.get_by_role("columnheader", name="Host and port")).to_have_attribute("aria-sort", "ascending")
    expect(page).to_have_url(re.compile(r"sort=host$"))
    page.get_by_role("columnheader").get_by_role("button", name="Host and port").click()
    expect(instances.console.rows.first).to_contain_text("10.0.19.249:8249")
    page.get_by_role("columnheader").get_by_role("button", name="State").click()
    expect(instances.console.rows.first).to_contain_text("new driver")
    page.go_back()
    expect(instances.console.rows.first).to_contain_text("10.0.19.249:8249")


def test_focus_and_selection_survive_changes_around_them(instances: Visit, crowd: Crowd) -> None:
    page, console = instances.page, instances.console
    filter_of(instances, "Model").select_option("qwen@llm")
    filter_of(instances, "Filter").fill("10.0.3.")
    keys = [key_number(number) for number in (752, 756, 760)]
    console.select(keys[:2])
    link = console.row(keys[0]).get_by_role("link")
    link.focus()
    page.evaluate("(text) => getSelection().selectAllChildren(text)", link.element_handle())
    crowd.client.drain(keys[0], reason="fan")
    crowd.client.deregister(keys[1])
    crowd.client.deregister(keys[2], remove=True)
    expect(console.row(keys[0])).to_contain_text("fan")
    expect(console.state(keys[1])).to_have_text("deregistered")
    expect(console.row(keys[2])).to_have_count(0)
    expect(link).to_be_focused()
    assert page.evaluate("() => getSelection().toString()") == "10.0.3.2:8002"
    expect(page.get_by_role("group", name="Selection")).to_contain_text("2 selected")
    filter_of(instances, "Filter").fill("10.0.4.")
    expect(page.get_by_role("group", name="Selection")).to_contain_text("2 selected (2 not in the filter)")


def test_what_is_typed_survives_changes(instances: Visit, crowd: Crowd) -> None:
    field = filter_of(instances, "Filter")
    field.press_sequentially("10.0.5.7")
    key = key_number(5 * 250 + 7)
    crowd.client.drain(key, reason="fan")
    expect(instances.console.row(key)).to_contain_text("fan")
    expect(field).to_be_focused()
    field.press_sequentially("7")
    expect(field).to_have_value("10.0.5.77")
    count_is(instances, "1 of")


def test_the_keys(instances: Visit) -> None:
    page = instances.page
    page.keyboard.press("/")
    expect(filter_of(instances, "Filter")).to_be_focused()
    page.keyboard.type("?g")
    expect(filter_of(instances, "Filter")).to_have_value("?g")
    expect(instances.console.dialog).to_have_count(0)
    page.keyboard.press("Escape")
    expect(filter_of(instances, "Filter")).not_to_be_focused()
    page.keyboard.press("?")
    expect(instances.console.dialog).to_contain_text("Go to the filter")
    page.keyboard.press("Escape")
    expect(instances.console.dialog).to_have_count(0)
    instances.console.rows.first.get_by_role("checkbox").check()
    page.keyboard.press("/")
    expect(filter_of(instances, "Filter")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_a_link_of_another_application_leads_to_the_same_rows(visit: Visitor, crowd: Crowd) -> None:
    """Values that are unknown are no filter, and a page that is too high is the last one."""
    address = f"{crowd.controller.url}/console/instances?model=rank@reranker&drained=no&state=odd&page=99"
    visited = visit(address)
    count_is(visited, "1,250 of")
    expect(visited.page.get_by_role("navigation", name="Pages")).to_contain_text("Page 13 of 13")
