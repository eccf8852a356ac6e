"""The table of instances at each width: no column is squeezed until its words break into letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey, Registration

if TYPE_CHECKING:
    from tests.browser.conftest import NewController, Visitor
    from tests.browser.controllers import Controller

KEY = InstanceKey("qwen3-32b-instruct@llm", "10.0.0.104", 8001)
MOST_LINES = 5
"""The most that a row of this instance needs, as a card of a phone."""


@pytest.fixture
def controller(new_controller: NewController) -> Controller:
    """One drained instance."""
    controller = new_controller()
    with ControllerClient(controller.url) as client:
        client.register(Registration(KEY))
        client.drain(KEY, reason="new drivers on the machine")
    return controller


@pytest.mark.parametrize("width", [360, 600, 880, 920, 1000, 1100, 1280, 1900])
def test_a_row_is_a_few_lines_high(visit: Visitor, controller: Controller, width: int) -> None:
    visited = visit(f"{controller.url}/console/instances", viewport={"width": width, "height": 800})
    row = visited.console.row(KEY)
    expect(row).to_contain_text("new drivers on the machine")
    lines = row.evaluate("row => row.offsetHeight / parseFloat(getComputedStyle(row).lineHeight)")
    assert lines <= MOST_LINES + 1  # the space above and below
