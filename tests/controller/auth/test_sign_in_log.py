"""The log of sign-ins is short, however often the holder of a token signs in."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.controller.auth.refusal_log import EVERY, MAX_LINES
from dbgpt_ctl.controller.auth.sign_in_log import SignInLog
from tests.support.clock import START

if TYPE_CHECKING:
    import pytest


def test_each_token_and_address_has_a_line_and_the_others_a_sum(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = SignInLog()
    for source in ("10.0.0.4", "10.0.0.5", "10.0.0.4", None, "10.0.0.4"):
        log.note("anna", source, START)
    assert [message.rpartition(" ")[2] for message in caplog.messages] == ["10.0.0.4", "10.0.0.5", "-"]
    log.tick(START + EVERY - timedelta(seconds=1))
    log.tick(START + EVERY)
    log.tick(START + 2 * EVERY)
    assert caplog.messages[3:] == ["2 more sign-ins at the console in the last minute"]
    log.note("anna", "10.0.0.4", START + 3 * EVERY)
    assert len(caplog.messages) == 5


def test_a_flood_of_addresses_makes_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = SignInLog()
    for number in range(MAX_LINES + 1):
        log.note("anna", f"2001:db8::{number:x}", START)
    log.tick(START - EVERY)  # the clock was set back
    assert len(caplog.messages) == MAX_LINES + 1
    assert caplog.messages[-1].startswith("1 more sign-in ")
