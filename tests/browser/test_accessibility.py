"""axe-core finds nothing serious on any view or in any dialog, light or dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dbgpt_ctl.domain.instance import InstanceKey, Registration
from tests.browser.conftest import missing
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import Visit, Visitor
    from tests.browser.controllers import Controller
    from tests.browser.tokens import Tokens
    from tests.support.fleet import Fleet

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")
DRAINED = InstanceKey("bge@text2vec", "10.0.0.4", 8001)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="session")
def axe() -> str:
    if not AXE.exists():
        missing("axe-core is missing: npm install")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture
def populated(controller: Controller, workers: Fleet) -> Controller:
    """A healthy, a drained, an unhealthy and a deregistered instance."""
    workers.client.register(Registration(DRAINED))
    workers.client.drain(DRAINED, reason="new driver")
    workers.start("qwen@llm", 2)
    workers.of("qwen@llm", 1).stop()
    gone = InstanceKey("rank@reranker", "10.0.0.5", 8001)
    workers.client.register(Registration(gone))
    workers.client.deregister(gone)
    return controller


def grave_findings(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate(
        """async () => {
            const { violations } = await axe.run(document, { resultTypes: ["violations"] });
            return violations.flatMap(({ id, impact, nodes }) =>
                nodes.map(({ target, failureSummary }) => [impact, `${id}: ${target}: ${failureSummary}`]));
        }"""
    )
    return [text for impact, text in found if impact in GRAVE]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("view", ["Overview", "Instances", "Events", "This controller"])
def test_a_view(visit: Visitor, populated: Controller, axe: str, view: str, scheme: str) -> None:
    visited = visit(f"{populated.url}/console/", color_scheme=scheme)
    visited.console.go(view)
    expect(visited.console.live).to_be_visible()
    assert grave_findings(visited.page, axe) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_view_of_one_instance(visit: Visitor, populated: Controller, axe: str, scheme: str) -> None:
    visited = visit(f"{populated.url}/console/instances", color_scheme=scheme)
    visited.console.row(DRAINED).get_by_role("link").click()
    expect(visited.page.get_by_role("main")).to_contain_text("ctl ")
    assert grave_findings(visited.page, axe) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_view_on_a_phone(visit: Visitor, populated: Controller, axe: str, scheme: str) -> None:
    visited = visit(
        f"{populated.url}/console/instances",
        color_scheme=scheme,
        viewport={"width": 390, "height": 844},
        has_touch=True,
    )
    expect(visited.console.row(DRAINED)).to_be_visible()
    assert grave_findings(visited.page, axe) == []


def drain_some(visited: Visit) -> None:
    visited.page.get_by_label("Select this page").check()
    visited.page.get_by_role("button", name="Drain…", exact=True).click()


def undrain_some(visited: Visit) -> None:
    visited.console.select([DRAINED])
    visited.page.get_by_role("button", name="Undrain…", exact=True).click()


def ask_for_keys(visited: Visit) -> None:
    visited.page.keyboard.press("?")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("opened", [drain_some, undrain_some, ask_for_keys])
def test_a_dialog(
    visit: Visitor, populated: Controller, axe: str, opened: Callable[[Visit], None], scheme: str
) -> None:
    visited = visit(f"{populated.url}/console/instances", color_scheme=scheme)
    expect(visited.console.row(DRAINED)).to_be_visible()
    opened(visited)
    expect(visited.console.dialog).to_be_visible()
    assert grave_findings(visited.page, axe) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_sign_in(visit: Visitor, enforcing: Controller, axe: str, tokens: Tokens, scheme: str) -> None:
    visited = visit(f"{enforcing.url}/console/", color_scheme=scheme)
    expect(visited.console.dialog).to_be_visible()
    assert grave_findings(visited.page, axe) == []
    visited.console.sign_in(tokens.reader)
    visited.console.signed_in_as("ben (reader)")
    assert grave_findings(visited.page, axe) == []


def test_a_bad_page_is_noticed(visit: Visitor, populated: Controller, axe: str) -> None:
    """Otherwise these tests would show nothing."""
    visited = visit(f"{populated.url}/console/")
    visited.page.evaluate("() => document.querySelector('main').append(document.createElement('select'))")
    assert [text.partition(":")[0] for text in grave_findings(visited.page, axe)] == ["select-name"]
