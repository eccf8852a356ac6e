"""The console page as a person uses it: what is on it by roles and labels, and rows by the identity of an instance."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Locator, Page

    from dbgpt_ctl.domain.instance import InstanceKey

VIEWS = ("Overview", "Instances", "Events", "This controller")
"""The links of the navigation."""


def key_of(key: InstanceKey) -> str:
    """What the page calls an instance, in `data-key` of its row."""
    return json.dumps([key.model_name, key.host, key.port], separators=(",", ":"))


class Console:
    """Wraps a page. Each method waits as playwright does."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def dialog(self) -> Locator:
        """The one that is open."""
        return self.page.get_by_role("dialog")

    @property
    def notices(self) -> Locator:
        """What is not as it should be, above every view."""
        return self.page.locator("#notices .notice")

    @property
    def live(self) -> Locator:
        """There while changes arrive."""
        return self.page.get_by_text("live", exact=True)

    @property
    def rows(self) -> Locator:
        """Those of instances, models or events."""
        return self.page.locator("main tbody tr[data-key]")

    def row(self, key: InstanceKey) -> Locator:
        """The row of an instance in a table of instances."""
        return self.by_key(key_of(key))

    def state(self, key: InstanceKey) -> Locator:
        """The word for its state in that row; `held`, `drained` and `stale` stand beside it."""
        return self.row(key).locator("span.state")

    def model(self, model_name: str) -> Locator:
        """The row of a model in the overview."""
        return self.by_key(model_name)

    def by_key(self, key: str) -> Locator:
        """The row with this `data-key`."""
        return self.page.locator(f"main tr[data-key={json.dumps(key)}]")

    def go(self, view: str) -> None:
        """Follows the link to a view."""
        self.page.get_by_role("navigation").get_by_role("link", name=view, exact=True).click()
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()

    def sign_in(self, token: str) -> None:
        """Types the token into the dialog, and sends it."""
        self.dialog.get_by_label("Token").fill(token)
        self.dialog.get_by_role("button", name="Sign in").click()

    def signed_in_as(self, text: str) -> None:
        """Waits until the page says so."""
        expect(self.page.get_by_role("banner")).to_contain_text(text)

    def select(self, keys: Sequence[InstanceKey]) -> None:
        """Checks the boxes of these rows."""
        for key in keys:
            self.row(key).get_by_role("checkbox").check()

    def hide(self) -> None:
        """The page is in the background. Headless Chromium has no other window, so the page is told so."""
        self._set_hidden(hidden=True)

    def show(self) -> None:
        """The page is in front again."""
        self._set_hidden(hidden=False)

    def _set_hidden(self, *, hidden: bool) -> None:
        self.page.evaluate(
            """(hidden) => {
                Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
                Object.defineProperty(document, "visibilityState",
                    { configurable: true, get: () => hidden ? "hidden" : "visible" });
                document.dispatchEvent(new Event("visibilitychange"));
            }""",
            hidden,
        )
