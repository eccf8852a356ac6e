"""Takes note of all that a page of the console may never do."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request

OUTAGE = re.compile(r"^Failed to load resource: (net::ERR_[A-Z_]+|the server responded with a status of 50[0-9] .*)$")
"""What Chromium itself says of a server that is away. No script can prevent these messages."""
REFUSED = re.compile(r"^Failed to load resource: the server responded with a status of 4(01|03|09|22|29) .*$")
"""What Chromium itself says of a request that the controller refuses."""
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`));
"""


class Guard:
    """Listens to all pages of a context. `complaints` has a line for each console message, error of a script, dialog,
    violation of the policy, and request to another origin than `origins`.
    """

    def __init__(self, context: BrowserContext, *origins: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        """The method and the path of each request."""
        self._origins = {*origins}
        self._excused: list[re.Pattern[str]] = []
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("request", self._on_request)
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.complaints.append(f"error of a script: {error.error}"))
        context.on("dialog", self._on_dialog)
        context.on("page", self._on_page)

    @contextmanager
    def excusing(self, page: Page, message: re.Pattern[str]) -> Iterator[None]:
        """Console messages of this form are expected while the block runs. Others are not."""
        self._excused.append(message)
        try:
            yield
            page.evaluate("null")  # events that came before this answer have been handled
        finally:
            self._excused.remove(message)

    def _on_page(self, page: Page) -> None:
        page.on("crash", lambda _: self.complaints.append(f"{page.url} crashed"))

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self.requests.append(f"{request.method} {parts.path}")
        if f"{parts.scheme}://{parts.netloc}" not in self._origins:
            self.complaints.append(f"request to another origin: {request.url}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if not any(pattern.match(message.text) for pattern in self._excused):
            self.complaints.append(f"{message.type} on the console: {message.text} ({message.location.get('url')})")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()
