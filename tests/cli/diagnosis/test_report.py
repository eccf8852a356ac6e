"""How findings are printed."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.facts import ControllerFacts
from dbgpt_ctl.cli.diagnosis.report import exit_code, folded, list_warnings
from dbgpt_ctl.client.responses import Inventory
from dbgpt_ctl.errors import ControllerUnreachable
from tests.cli.diagnosis.observed import NOW, OTHER, URL, ago, cluster, controller, known, of

if TYPE_CHECKING:
    import pytest


def test_ascii_is_folded_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import would take longer than all the rest."""
    monkeypatch.setitem(sys.modules, "rich.cells", None)
    assert folded("  some words to fold", 14) == ["  some words", "    to fold"]
    assert folded("words to fold", 8) == ["words to", "fold"]
    assert folded("  http://127.0.0.1:8000: no", 10) == ["  http://127.0.0.1:8000:", "    no"]
    assert folded("some words to fold", None) == ["some words to fold"]


def test_warnings_before_a_list_is_trusted() -> None:
    fresh = Inventory([], complete=True, controller=URL, time=NOW)
    assert list_warnings(fresh, NOW) == []
    stale = replace(fresh, stale_since=ago(90), held_until=ago(-40))
    assert list_warnings(stale, NOW) == [
        f"warning: {URL}: its registry is away; this is what it held 90s ago [registry-stale]",
        (
            f"warning: {URL}: its registry was away; for 40s more, until 12:00:40 UTC, some instances are shown as "
            "they were before [states-held]"
        ),
    ]


def test_exit_codes() -> None:
    down = ControllerFacts(OTHER, ControllerUnreachable("Connection refused"))
    assert exit_code(of(known())) == 0
    assert exit_code(cluster(controller(), down)) == 0
    assert exit_code(cluster(down)) == 3
    assert exit_code(of(known(), wanted="glm")) == 4
