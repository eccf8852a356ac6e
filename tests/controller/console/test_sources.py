"""What the files of the console page may not contain, how large they are together, and that they load in one step."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import dbgpt_ctl
from dbgpt_ctl.controller.console import endpoint

ASSETS = Path(dbgpt_ctl.__file__).parent / "controller" / "console" / "assets"
FILES = sorted(path.relative_to(ASSETS) for path in ASSETS.rglob("*") if path.suffix in endpoint.MEDIA_TYPES)
IMPORT = re.compile(r'^(?:import|export)\s[^;]*?\bfrom\s+"([^"]+)"', re.MULTILINE)
BUDGET_BYTES = 40_000
"""Of all that a browser loads, compressed."""
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
"""An identifier that createElementNS needs. No browser loads it."""
FORBIDDEN = {
    "text that becomes markup": r"(?:inner|outer|insertAdjacent|set)HTML|document\s*\.\s*write|DOMParser|srcdoc",
    "text that becomes code": r"\beval\b|\bnew\s+Function\b|\bFunction\s*\(|set(?:Timeout|Interval)\(\s*[\"'`]",
    "a policy that lets text become markup": r"trustedTypes|createPolicy",
    "a way to another server": r"(?:https?|wss?)://|[\"'(]//|@import\s+(?:url|[\"'])",
    "an inline handler": r"<[^>]*\son\w+\s*=",
    "an inline style": r"<[^>]*\sstyle\s*=|<style\b|cssText|setAttribute\(\s*[\"'`](?:style|on)",
    "an inline script": r"<script(?![^>]*\ssrc=)",
    "a javascript: address": r"javascript:",
}


def violations(text: str) -> list[str]:
    """The kinds of FORBIDDEN that the text has."""
    return [
        kind
        for kind, pattern in FORBIDDEN.items()
        if re.search(pattern, text.replace(SVG_NAMESPACE, ""), re.IGNORECASE)
    ]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_has_nothing_that_the_policy_forbids(file: Path) -> None:
    assert violations((ASSETS / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("row.innerHTML = name", "text that becomes markup"),
        ("document.write(name)", "text that becomes markup"),
        ("eval(name)", "text that becomes code"),
        ("new Function(name)", "text that becomes code"),
        ("setTimeout('go()', 1)", "text that becomes code"),
        ("import('https://192.0.2.1/x.js')", "a way to another server"),
        ("import('//192.0.2.1/x.js')", "a way to another server"),
        ("@import url(x.css);", "a way to another server"),
        ("<a onclick=go()>", "an inline handler"),
        ('<p style="color: red">', "an inline style"),
        ("row.setAttribute('style', text)", "an inline style"),
        ("<script>go()</script>", "an inline script"),
        ('<a href="javascript:go()">', "a javascript: address"),
    ],
)
def test_what_is_forbidden_is_noticed(text: str, kind: str) -> None:
    assert violations(text) == [kind]


def test_what_is_allowed_passes() -> None:
    allowed = [
        f"document.createElementNS('{SVG_NAMESPACE}', name)",
        "// innermost is a word, and so is evaluation",
        "bar.style.setProperty('--share', share)",
        '<script type="module" src="main.js"></script>',
    ]
    assert [violations(text) for text in allowed] == [[]] * len(allowed)


def loaded_modules() -> set[str]:
    """main.js and all modules that it imports, directly or not."""
    found: set[str] = set()
    todo = [ASSETS / "main.js"]
    while todo:
        module = todo.pop()
        name = module.relative_to(ASSETS).as_posix()
        if name not in found:
            found.add(name)
            imported = IMPORT.findall(module.read_text(encoding="utf-8"))
            todo += [Path(os.path.normpath(module.parent / path)) for path in imported]
    return found


def test_each_module_is_loaded() -> None:
    assert {file.as_posix() for file in FILES if file.suffix == ".js"} == loaded_modules()


def test_all_that_a_browser_loads_is_small() -> None:
    others = [file.as_posix() for file in FILES if file.suffix != ".js"]
    compressed = {"accept-encoding": "gzip"}
    sizes = {name: len(endpoint.answer(name, compressed).body) for name in [*others, *loaded_modules()]}
    assert sum(sizes.values()) <= BUDGET_BYTES, sizes


class Loaded(HTMLParser):
    """Collects the modules that a page preloads, and those that it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.preloaded: list[str] = []
        self.started: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "link" and found.get("rel") == "modulepreload":
            self.preloaded.append(found["href"])
        elif tag == "script":
            self.started.append(found["src"])


def test_the_page_asks_for_all_modules_at_once() -> None:
    """Without it a browser finds a module only after it has read the one that imports it."""
    page = Loaded()
    page.feed((ASSETS / "index.html").read_text(encoding="utf-8"))
    assert page.started == ["first_answers.js", "main.js"]
    assert sorted(page.preloaded) == sorted(loaded_modules() - {*page.started})
