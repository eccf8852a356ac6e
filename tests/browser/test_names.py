"""Names that any client may register are text on each view: no markup, no script, nothing that cannot be seen."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import ControllerRefused
from dbgpt_ctl.text.escaping import escaped
from tests.cli.test_hostile import NAMES, OBEYED

if TYPE_CHECKING:
    from tests.browser.conftest import NewController, Visit, Visitor

MARKUP = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "<style>*{display:none}</style>",
    "</td></tr></table><h1>owned</h1>",
    "javascript:alert(1)",
    "&lt;b&gt;&amp;",
    "${alert(1)}{{alert(1)}}",
    "../../../api/v1/session",
    "//127.0.0.1:9/x?y#z",
    "__proto__",
    "constructor",
    "x" * 200,
]
DANGEROUS = "main :is(script, img, style, iframe, object, embed, [onerror], [onload], [src])"


@pytest.fixture(scope="module")
def names() -> list[str]:
    return [*MARKUP, *(name for name in NAMES if "\ud800" not in name)]  # no request can carry half of a character


@pytest.fixture
def poisoned(visit: Visitor, new_controller: NewController, names: list[str]) -> tuple[Visit, list[InstanceKey]]:
    """A list of instances whose names, reasons and templates are these, as far as the controller takes them."""
    controller = new_controller()
    keys = []
    with ControllerClient(controller.url) as client:
        for port, name in enumerate(names, 8001):
            key = InstanceKey(f"{name}@llm", "127.0.0.9", port)
            try:
                client.register(Registration(key, prompt_template=name))
                client.drain(key, reason=name)
            except ControllerRefused:
                continue
            keys.append(key)
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.rows).to_have_count(len(keys))
    return visited, keys


def inert(visited: Visit) -> None:
    """Nothing of a name became an element, and nothing that cannot be seen is in the text. The guard minds scripts."""
    assert visited.page.locator(DANGEROUS).count() == 0
    text = visited.page.locator("body").evaluate("(body) => body.textContent")
    assert {char for char in text if unicodedata.category(char) in OBEYED} <= {"\n"}
    titles = visited.page.locator("[title], [aria-label]").evaluate_all(
        "(all) => all.map((each) => `${each.title}${each.ariaLabel ?? ''}`).join('')"
    )
    assert {char for char in titles if unicodedata.category(char) in OBEYED} == set()


def test_the_controller_takes_most_of_them(poisoned: tuple[Visit, list[InstanceKey]], names: list[str]) -> None:
    """Otherwise these tests would show little."""
    assert len(poisoned[1]) > len(names) / 2


@pytest.mark.parametrize("view", ["Instances", "Overview", "Events", "This controller"])
def test_names_are_text_in_each_view(poisoned: tuple[Visit, list[InstanceKey]], view: str) -> None:
    visited, keys = poisoned
    visited.console.go(view)
    if view != "This controller":
        for key in keys:
            expect(visited.page.get_by_role("main")).to_contain_text(escaped(key.model_name).rpartition("@")[0])
    inert(visited)


def test_names_are_text_in_the_view_of_one_instance(poisoned: tuple[Visit, list[InstanceKey]]) -> None:
    visited, keys = poisoned
    origin = visited.page.url.partition("/console")[0]
    for key in keys:
        query = urlencode({"model_name": key.model_name, "host": key.host, "port": key.port})
        visited.page.goto(f"{origin}/console/instance?{query}")
        expect(visited.page.get_by_role("heading", level=1)).to_contain_text(escaped(key.model_name))
        expect(visited.page.get_by_role("main")).to_contain_text("ctl ")
        inert(visited)


def test_names_are_text_in_dialogs_and_filters(poisoned: tuple[Visit, list[InstanceKey]]) -> None:
    visited, keys = poisoned
    visited.page.get_by_label("Select this page").check()
    visited.page.get_by_role("button", name="Drain…", exact=True).click()
    expect(visited.console.dialog).to_contain_text(f"Drain {len(keys)} instances")
    inert(visited)
    visited.page.keyboard.press("Escape")
    for key in keys:
        visited.page.get_by_role("search").get_by_label("Model", exact=True).select_option(key.model_name)
        expect(visited.console.rows).to_have_count(1)
        inert(visited)
