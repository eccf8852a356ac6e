"""A browser, its pages under guard, controllers as processes, and workers that beat."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import chromium, missing_chromium
from tests.browser.console import Console
from tests.browser.controllers import Controller, running_controller
from tests.browser.guard import Guard
from tests.browser.tokens import Tokens
from tests.support.fleet import Fleet, fleet

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext, Page

WITHIN_MS = 2000
"""What changes in the cluster is on the page within this time."""
PATIENCE_MS = 10_000
"""So long a test waits for what it clicks."""
TIMEOUT_SECS = 3
"""The heartbeat timeout of a controller whose workers expire in a test."""


@dataclass(frozen=True)
class Visit:
    """A page of the console, and what it must not do."""

    page: Page
    guard: Guard

    @property
    def console(self) -> Console:
        return Console(self.page)


Visitor: TypeAlias = Callable[..., Visit]
NewController: TypeAlias = Callable[..., Controller]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.browser)


def missing(what: str) -> str:
    """A missing program skips a test, and in CI it fails."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if absent := missing_chromium():
        missing(absent)
    with chromium() as running:
        expect.set_options(timeout=WITHIN_MS)
        yield running


@pytest.fixture
def after_visits() -> Iterator[ExitStack]:
    """What ends when the windows of the test are closed: a page would mind the end of its controller."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def visit(browser: Browser, after_visits: ExitStack) -> Iterator[Visitor]:
    """Opens an address in a new window: `visit(url, color_scheme="dark", ...)`, with the options of a context of
    playwright. `origins` are further controllers that the page may go to. At the end of the test no page may have done
    anything that its guard minds.
    """
    with ExitStack() as stack:

        def opened(url: str, *origins: str, **options: Any) -> Visit:
            visit = stack.enter_context(_visiting(browser, url, origins, options))
            visit.page.goto(url)
            return visit

        yield opened


@contextmanager
def _visiting(browser: Browser, url: str, origins: tuple[str, ...], options: dict[str, Any]) -> Iterator[Visit]:
    context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    guard = Guard(context, "/".join(url.split("/", 3)[:3]), *origins)
    try:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        yield Visit(page, guard)
        page.evaluate("null")  # events that came before this answer have been handled
        assert guard.complaints == []
    finally:
        context.close()


@pytest.fixture
def new_controller(after_visits: ExitStack, tmp_path: Path) -> NewController:
    """Starts a controller with an embedded registry and these options of `ctl serve`."""
    return lambda *options: after_visits.enter_context(running_controller(tmp_path, *options))


@pytest.fixture
def controller(new_controller: NewController) -> Controller:
    """Authentication is off. Workers are unhealthy TIMEOUT_SECS after their last heartbeat."""
    return new_controller("--heartbeat-timeout-secs", str(TIMEOUT_SECS))


@pytest.fixture
def workers(controller: Controller) -> Iterator[Fleet]:
    """Workers that beat twice a second."""
    with fleet(controller.url) as running:
        yield running


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """An operator's, a reader's and a worker's token, in a file whose mode is enforce."""
    return Tokens.created_in(tmp_path)


@pytest.fixture
def enforcing(new_controller: NewController, tokens: Tokens) -> Controller:
    """A controller that asks for these tokens."""
    return new_controller("--tokens-file", str(tokens.path), "--heartbeat-timeout-secs", str(TIMEOUT_SECS))
