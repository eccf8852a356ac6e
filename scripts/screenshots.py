"""Takes the pictures of the console page in docs/images/console/: `python -m scripts.screenshots [NAME ...]`.

A real Chromium looks at real controllers, in windows of fixed sizes. `make browser` installs what that needs.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import expect

from scripts.demo_cluster import DemoCluster, demo_cluster
from tests.browser.chromium import chromium

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images" / "console"
COLOURS = 256
"""In each picture: a page of text and flat areas loses nothing with them, and its file is a third."""
PATIENCE_MILLIS = 20_000
WINDOWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}


@dataclass(frozen=True)
class Picture:
    """One page in some windows. `prepare` does there what a person would do before they look."""

    name: str
    path: str
    windows: tuple[str, ...] = ("light", "dark", "phone")
    prepare: Callable[[Page], None] = lambda page: None  # noqa: ARG005
    signed_in: bool = True


def _choose_two_and_drain(page: Page) -> None:
    boxes = page.get_by_role("row").get_by_role("checkbox")
    for index in (1, 2):
        boxes.nth(index).check()
    page.get_by_role("button", name="Drain…", exact=True).click()
    expect(page.get_by_role("dialog")).to_be_visible()


def _until_held(page: Page) -> None:
    page.locator("tbody").get_by_text("held", exact=True).first.wait_for()


def _ask_for_keys(page: Page) -> None:
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


INSTANCE = "instance?model_name=deepseek-r1%40llm&host=10.20.0.16&port=8008"
PICTURES = (
    Picture("overview", ""),
    Picture("instances", "instances?sort=state"),
    Picture("drain", "instances?model=qwen3-32b%40llm", prepare=_choose_two_and_drain),
    Picture("instance", INSTANCE),
    Picture("events", "events"),
    Picture("controller", "controller"),
    Picture("sign-in", "", ("light",), signed_in=False),
    Picture("keys", "instances", ("light",), prepare=_ask_for_keys),
)
"""The views, and the dialogs."""
STALE = Picture("stale", "", ("light",))
"""While the database is stopped."""
HELD = Picture("held", "instances?model=deepseek-r1%40llm", ("light",), prepare=_until_held)
"""After it has come back."""


def take(browser: Browser, cluster: DemoCluster, picture: Picture) -> None:
    """Writes the picture once for each of its windows."""
    for window in picture.windows:
        context = browser.new_context(timezone_id="Europe/Madrid", locale="en-GB", **WINDOWS[window])
        context.set_default_timeout(PATIENCE_MILLIS)
        if picture.signed_in:
            answer = context.request.post(
                f"{cluster.url}/api/v1/session",
                data={"token": cluster.operator_token},
                headers={"Origin": cluster.url},
            )
            if not answer.ok:
                raise RuntimeError(f"the sign-in failed: {answer.text()}")
        page = context.new_page()
        page.goto(f"{cluster.url}/console/{picture.path}", wait_until="load")
        if picture.signed_in:
            page.locator("main tbody tr").first.wait_for()
        _until_drawn(page)
        picture.prepare(page)
        _until_drawn(page)
        _write(page.screenshot(animations="disabled", caret="hide"), FOLDER / f"{picture.name}-{window}.png")
        context.close()


def _until_drawn(page: Page) -> None:
    """Waits until all that the view has asked for is there, and drawn."""
    expect(page.get_by_text("Loading")).to_have_count(0)
    page.wait_for_function("() => performance.getEntriesByType('resource').every((each) => each.responseEnd > 0)")
    page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


def _write(png: bytes, path: Path) -> None:
    """With a palette, as small as it gets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Takes all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    everything = {picture.name: picture for picture in (*PICTURES, STALE, HELD)}
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(everything)}")
    wanted = set(parser.parse_args().names or everything)
    if unknown := wanted - everything.keys():
        parser.error(f"there is no picture {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder, demo_cluster(Path(folder)) as cluster, chromium() as browser:
        for picture in PICTURES:
            if picture.name in wanted:
                take(browser, cluster, picture)
        if {STALE.name, HELD.name} & wanted:
            _take_those_of_an_outage(browser, cluster, wanted)


def _take_those_of_an_outage(browser: Browser, cluster: DemoCluster, wanted: set[str]) -> None:
    with cluster.database_away():
        if STALE.name in wanted:
            take(browser, cluster, STALE)
    if HELD.name in wanted:
        take(browser, cluster, HELD)


if __name__ == "__main__":
    main()
