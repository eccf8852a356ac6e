"""What the page knows without asking the controller, in JavaScript, is what `ctl` knows in Python."""

from __future__ import annotations

import sys
import unicodedata
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.framework.disruption import refuse_disruption
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceState
from dbgpt_ctl.errors import WouldDisrupt
from dbgpt_ctl.text.escaping import escaped

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Visitor
    from tests.browser.controllers import Controller

INSTANCES = [
    *(KnownInstance(name, "10.0.0.4", port) for name in ("a@llm", "b\u202e@llm", "c@service") for port in range(3)),
    KnownInstance("a@llm", "10.0.0.5", 1),
    KnownInstance("a@llm", "10.0.0.6", 1, state=InstanceState.UNHEALTHY),
    KnownInstance("d@llm", "10.0.0.4", 1, drain=DrainFacts()),
]
CALL = "async ([name, ...args]) => { const { %s: call } = await import(name); return %s; }"
UNKNOWN = ("Cn", "Cs", "Co")
"""Browsers know a newer Unicode, no text that a controller sends has a surrogate alone, and private ones are many."""


@pytest.fixture
def page(visit: Visitor, controller: Controller) -> Page:
    return visit(f"{controller.url}/console/").page


def call(page: Page, module: str, function: str, how: str, *args: Any) -> Any:
    """What `how` returns, in which `call` is this function of a module of the page, and `args` are the arguments."""
    name = page.evaluate("(module) => new URL(module, location.href).href", module)
    return page.evaluate(CALL % (function, how), [name, *args])


def warned_by_ctl(drained: list[KnownInstance], capsys: pytest.CaptureFixture[str]) -> list[str]:
    try:
        refuse_disruption([each.key for each in drained], INSTANCES, "drained", by_selector=True)
    except WouldDisrupt as error:
        return capsys.readouterr().err.replace("ctl: ", "").splitlines() or [str(error).partition(": nothing was")[0]]
    return []


def known_to_the_page(instances: list[KnownInstance]) -> list[dict[str, Any]]:
    return [
        {
            "model_name": each.model_name,
            "routable": each.state is InstanceState.HEALTHY and each.drain is None,
        }
        for each in instances
    ]


def test_the_same_drains_are_warned_of(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    """All choices of up to three instances, and all of them at once."""
    choices = [list(chosen) for count in range(4) for chosen in combinations(INSTANCES, count)] + [INSTANCES]
    shown = call(
        page,
        "disruption.js",
        "disruptions",
        "args[0].map((drained) => call(drained, args[1]))",
        list(map(known_to_the_page, choices)),
        known_to_the_page(INSTANCES),
    )
    expected = [warned_by_ctl(choice, capsys) for choice in choices]
    assert shown == expected
    assert max(map(len, expected)) > 1


def test_the_same_names_are_shown(page: Page) -> None:
    """Each character that this Python knows, between letters, and what looks like an escape."""
    known = (chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in UNKNOWN)
    texts = [f"a{char}b" for char in known]
    texts += ["\\x1b", "\\u202e", "\\U000e0001", "\\U00110000", "\\xZZ", "C:\\new"]
    shown = call(page, "escaping.js", "escaped", "args[0].map(call)", texts)
    assert {text: one for text, one in zip(texts, shown, strict=True) if one != escaped(text)} == {}
