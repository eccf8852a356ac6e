"""A page in a browser that has nothing of it yet, and scripts that note when something is painted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.report import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

ROWS = "main tbody tr"
WIDTH, HEIGHT = 1280, 800
PATIENCE_MILLIS = 30_000
_SCRIPT = """
globalThis.benchmark = {
  // Resolves after the first frame that was painted with `holds()`: to the time since navigation, in milliseconds.
  painted: (holds) => new Promise((resolve) => {
    const channel = new MessageChannel();
    const look = () => requestAnimationFrame(() => channel.port2.postMessage(null));
    channel.port1.onmessage = () => {
      if (!holds()) return look();
      channel.port1.close(); // or it stays in memory
      resolve(performance.now());
    };
    look();
  }),
  rows: () => document.querySelectorAll("%(rows)s").length,
  // Resolves after the paint that follows the next `type` event, once the rows of the table are others.
  answered: (type) => new Promise((resolve) => addEventListener(type, (event) => {
    let others = false;
    const observer = new MutationObserver(() => { others = true; });
    for (const body of document.querySelectorAll("main tbody")) observer.observe(body, { childList: true });
    benchmark.painted(() => others).then((time) => {
      observer.disconnect();
      resolve(time - event.timeStamp);
    });
  }, { capture: true, once: true })),
};
"""
SCRIPT = _SCRIPT % {"rows": ROWS}
"""Runs before any script of the page. Its promises wait in frames, so they need a page that is visible."""


@contextmanager
def visiting(browser: Browser, url: str, *scripts: str) -> Iterator[Page]:
    """A page at `url` in a new context: nothing is cached. `scripts` run before those of the page.

    Raises MeasurementError when the page wrote an error to the console of the browser.
    """
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    context.set_default_timeout(PATIENCE_MILLIS)
    complaints: list[str] = []
    try:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        for script in (SCRIPT, *scripts):
            page.add_init_script(script)
        page.goto(url)
        yield page
        if complaints:
            raise MeasurementError(f"{url} complains: {complaints[0]}")
    finally:
        context.close()


def waited(page: Page, expression: str, argument: Any = None) -> Any:
    """What the promise of a script resolves to. Raises MeasurementError when it takes longer than PATIENCE_MILLIS."""
    race = f"""(argument) => Promise.race([
      ({expression})(argument),
      new Promise((_, reject) => setTimeout(() => reject(new Error("it takes too long")), {PATIENCE_MILLIS})),
    ])"""
    from playwright.sync_api import Error

    try:
        return page.evaluate(race, argument)
    except Error as error:
        raise MeasurementError(f"{page.url}: {expression}: {error.message}") from None
