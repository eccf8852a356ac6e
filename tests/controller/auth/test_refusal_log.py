"""The log of refused requests is short, whatever strangers send, and none of their text can forge a line."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from dbgpt_ctl.auth.tokens import Reason
from dbgpt_ctl.controller.auth.refusal_log import EVERY, MAX_LINES, MAX_LINES_OF_SOURCE, RefusalLog, RefusedRequest
from dbgpt_ctl.domain.instance import InstanceKey
from tests.support.clock import START

if TYPE_CHECKING:
    import pytest

WORKER = RefusedRequest(
    Reason.UNKNOWN,
    "10.0.0.4",
    b"python-httpx/0.27.0",
    "w1",
    None,
    "POST /api/controller/models",
    InstanceKey("qwen@llm", "10.0.0.4", 1),
)


def test_the_first_request_is_logged_at_once_and_the_others_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for number in range(4):
        log.note(WORKER, START + timedelta(seconds=number), served=False)
    log.note(WORKER._replace(reason=Reason.NONE, label=None, source=None), START, served=False)
    first, second = caplog.messages
    assert first == (
        "POST /api/controller/models of qwen@llm/10.0.0.4:1 from 10.0.0.4 'w1' is refused: it has an unknown token; "
        "user agent 'python-httpx/0.27.0'"
    )
    assert " from - is refused: it has no token; " in second
    log.tick(START + EVERY - timedelta(seconds=1))
    log.tick(START + EVERY)
    log.tick(START + 2 * EVERY)
    assert caplog.messages[2:] == [
        "3 more requests were refused in the last minute: unknown 3; most from 10.0.0.4 (3); ctl auth status lists all"
    ]


def test_a_clock_that_is_set_back_does_not_silence_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for _ in range(2):
        log.note(WORKER, START + timedelta(days=400), served=False)
    log.tick(START)
    assert caplog.messages[1].startswith("1 more request was refused in the last minute: unknown 1;")


def test_in_log_mode_the_lines_say_that_the_request_was_served(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for _ in range(2):
        log.note(WORKER._replace(reason=Reason.MODELS, token="w1"), START, served=True)
    log.tick(START + EVERY)
    assert (
        "is served, which enforce mode refuses: it has a token that is not for this model (w1);" in caplog.messages[0]
    )
    assert caplog.messages[1].startswith(
        "1 more request was served that enforce mode refuses in the last minute: models 1;"
    )


def test_a_change_of_the_mode_ends_the_sum_and_logs_each_caller_anew(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for served in (True, True, False, False):
        log.note(WORKER, START, served=served)
    log.tick(START + EVERY)
    _, served_sum, refused, refused_sum = caplog.messages
    assert served_sum.startswith("1 more request was served that enforce mode refuses")
    assert "is refused: it has an unknown token" in refused
    assert refused_sum.startswith("1 more request was refused")


def test_a_flood_of_labels_and_sources_makes_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    log = RefusalLog()
    for number in range(3000):
        log.note(WORKER._replace(source="10.6.6.6", label=f"label {number}"), START, served=False)
    assert len(caplog.messages) == MAX_LINES_OF_SOURCE
    for number in range(3000):
        log.note(WORKER._replace(source=f"10.7.{number // 250}.{number % 250}"), START, served=False)
    assert len(caplog.messages) == MAX_LINES
    log.tick(START + EVERY)
    assert len(caplog.messages) == MAX_LINES + 1
    assert caplog.messages[-1].startswith(f"{6000 - MAX_LINES:,} more requests were refused")


def test_no_text_of_a_stranger_forges_a_line(caplog: pytest.LogCaptureFixture) -> None:
    hostile = "\r\n2026-01-01 INFO all is well\x1b[2J dctl_" + "a" * 43
    request = WORKER._replace(user_agent=hostile.encode(), label=hostile, action=f"GET /{hostile}")
    RefusalLog().note(request, START, served=False)
    (line,) = caplog.messages
    assert line.isprintable()
    assert "dctl_" not in line
