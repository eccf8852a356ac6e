"""How long the table of all instances takes to answer: to a key, to a click that sorts, and to a change elsewhere."""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.console.changes import key_of, row_of
from benchmarks.console.visit import visiting, waited
from benchmarks.report import Row, Section, say
from dbgpt_ctl.client.sync import ControllerClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from benchmarks.sides import Server

KEYS = ("7", "7", "7", "Backspace", "Backspace", "Backspace")
"""Typed into the filter, each of them changes the first page: few names and addresses have so many of these digits."""
ROUNDS = 5
_NOTE = "(type) => { benchmark.next = benchmark.answered(type); }"
_NOTE_CHANGE = """([row, text]) => {
  const shows = () => document.querySelector(row)?.textContent.includes(text);
  benchmark.next = benchmark.painted(shows).then(() => Date.now());
}"""
_UNDRAINED = "([row, text]) => benchmark.painted(() => !document.querySelector(row).textContent.includes(text))"
_NEXT = "() => benchmark.next"


def run(browser: Browser, server: Server, models: int) -> list[Section]:
    """The medians of many keys, clicks and changes, in milliseconds."""
    changes = partial(_changes, server=server, models=models)
    found = {
        "a key in the filter": _in_view(browser, server, _keys),
        "a click that sorts by a column": _in_view(browser, server, _clicks),
        "a change, from its commit to its row": _in_view(browser, server, changes),
    }
    for name, times in found.items():
        say(f"{name}: {' '.join(f'{one:.0f}' for one in times)} ms")
    return [section(found, server.instances)]


def _in_view(browser: Browser, server: Server, times: Callable[[Page], Iterator[float]]) -> list[float]:
    """The times from a new page, once it shows rows and gets changes."""
    with visiting(browser, f"{server.url}/console/instances") as page:
        waited(page, "() => benchmark.painted(() => benchmark.rows() > 0)")
        page.get_by_text("live", exact=True).wait_for()
        return [*times(page)]


def section(found: dict[str, list[float]], instances: int) -> Section:
    """Milliseconds of each kind, with the least and the most."""
    rows = [
        Row((name, f"{median(times):.0f}", f"{min(times):.0f}", f"{max(times):.0f}")) for name, times in found.items()
    ]
    heads = (f"Console, view of {instances:,} instances, ms to the painted frame", "median", "least", "most")
    return Section(heads, rows, "Times of keys and clicks count from the input event of the browser.")


def _keys(page: Page) -> Iterator[float]:
    page.get_by_role("searchbox").focus()
    for _ in range(ROUNDS):
        for key in KEYS:
            page.evaluate(_NOTE, "keydown")
            page.keyboard.press(key)
            yield waited(page, _NEXT)


def _clicks(page: Page) -> Iterator[float]:
    """Each click makes another column the one that is sorted by, or turns the order: all rows are others."""
    for _ in range(ROUNDS):
        for name in ("Host", "Host", "Model", "Model"):
            page.evaluate(_NOTE, "click")
            page.locator("main th").get_by_role("button", name=name).click()
            yield waited(page, _NEXT)


def _changes(page: Page, server: Server, models: int) -> Iterator[float]:
    """Drains of an instance of the first page."""
    key = key_of(0, models)
    with ControllerClient(server.url, actor="operator") as client:
        for number in range(4 * ROUNDS):
            reason = f"measured {number}"
            page.evaluate(_NOTE_CHANGE, [row_of(key), reason])
            client.drain(key, reason=reason)
            shown = waited(page, _NEXT)
            committed = client.events(limit=1).events[-1].change.time
            yield shown - 1000 * committed.timestamp()
            client.undrain(key)
            waited(page, _UNDRAINED, [row_of(key), reason])
