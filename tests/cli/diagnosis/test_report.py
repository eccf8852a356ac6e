"""How findings are printed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from dbgpt_ctl.cli.diagnosis.report import exit_code, folded
from dbgpt_ctl.diagnosis.facts import ControllerFacts
from dbgpt_ctl.errors import ControllerUnreachable
from tests.diagnosis.observed import OTHER, cluster, controller, known, of

if TYPE_CHECKING:
    import pytest


def test_ascii_is_folded_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import would take longer than all the rest."""
    monkeypatch.setitem(sys.modules, "rich.cells", None)
    assert folded("  some words to fold", 14) == ["  some words", "    to fold"]
    assert folded("words to fold", 8) == ["words to", "fold"]
    assert folded("  http://127.0.0.1:8000: no", 10) == ["  http://127.0.0.1:8000:", "    no"]
    assert folded("some words to fold", None) == ["some words to fold"]


def test_exit_codes() -> None:
    down = ControllerFacts(OTHER, ControllerUnreachable("Connection refused"))
    assert exit_code(of(known())) == 0
    assert exit_code(cluster(controller(), down)) == 0
    assert exit_code(cluster(down)) == 3
    assert exit_code(of(known(), wanted="glm")) == 4
