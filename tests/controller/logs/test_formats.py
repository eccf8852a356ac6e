"""The two formats of the log, and the events that they name."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.controller.logs.current_request import CURRENT
from dbgpt_ctl.controller.logs.formats import create_formatter, instance_fields, json_line, utc_time
from dbgpt_ctl.domain.instance import InstanceKey
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path


KEY = InstanceKey("qwen3@llm", "10.0.0.4", 8001)
EVENT = r"[a-z]+\.[a-z_]+"


def record(text: str, *args: object, name: str = "dbgpt_ctl.controller.http.tls", **extra: Any) -> logging.LogRecord:
    made = logging.getLogger(name).makeRecord(name, logging.WARNING, "f.py", 1, text, args, None, extra=extra or None)
    made.created, made.msecs = 1767323045.678, 678.0
    return made


def fields_of(made: logging.LogRecord) -> dict[str, Any]:
    line = create_formatter("json").format(made)
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_text_format_is_the_one_of_before_and_shows_no_field() -> None:
    made = record("%s expired", KEY, event="instance.expired", model_name="qwen3@llm")
    text = "2026-01-02T03:04:05.678Z WARNING qwen3@llm/10.0.0.4:8001 expired"
    assert create_formatter("text").format(made) == text


def test_a_json_line_has_the_four_fields_and_those_that_were_given() -> None:
    made = record("%s expired", KEY, event="instance.expired", count=0, reason=None, **instance_fields(KEY))
    assert fields_of(made) == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "warning",
        "event": "instance.expired",
        "message": "qwen3@llm/10.0.0.4:8001 expired",
        "model_name": "qwen3@llm",
        "instance": "qwen3@llm/10.0.0.4:8001",
        "count": 0,
    }


@pytest.mark.parametrize(
    ("name", "event"),
    [("dbgpt_ctl.controller.http.tls", "controller.http.tls"), ("uvicorn.error", "uvicorn.error"), ("root", "root")],
)
def test_a_record_without_an_event_has_the_name_of_its_logger(name: str, event: str) -> None:
    assert fields_of(record("text", name=name))["event"] == event


def test_what_a_library_gives_beside_it_is_left_out() -> None:
    assert "color_message" not in fields_of(record("text", color_message="\x1b[1mtext"))


def test_an_exception_is_one_field() -> None:
    made = record("failed")
    try:
        int("two\nlines \x1b[2J")
    except ValueError:
        made.exc_info = sys.exc_info()
    found = fields_of(made)
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: invalid literal" in found["exception"]
    assert found["message"] == "failed"


def test_a_record_names_the_request_during_which_it_was_made() -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    scope = {"headers": [(b"x-request-id", b"abc-1"), (b"traceparent", parent)]}
    token = CURRENT.set(scope)
    try:
        found = fields_of(record("text"))
    finally:
        CURRENT.reset(token)
    assert (found["request_id"], found["trace_id"]) == ("abc-1", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert "request_id" not in fields_of(record("text"))


def test_each_event_is_documented_and_each_documented_one_exists() -> None:
    sources = [path for part in ("controller", "registry") for path in ROOT.glob(f"dbgpt_ctl/{part}/**/*.py")]
    written = {event for path in sources for line in path.read_text().splitlines() for event in events_of_line(line)}
    documented = documented_events(ROOT / "docs" / "operating.md")
    assert written == documented
    assert len(written) > 30


def events_of_line(line: str) -> set[str]:
    """The events that a line of Python names: beside the word `event`, or as an event of an instance."""
    found = set(re.findall(f'"({EVENT})"', line))
    return {name for name in found if "event" in line or name.startswith(("instance.", "auth."))}


def documented_events(page: Path) -> set[str]:
    """The events in the first column of the table that says what happened."""
    table = page.read_text().split("| Event | What happened |\n")[1].split("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(f"`({EVENT})`", row.split("|")[1])}


def test_an_event_that_no_page_names_is_found() -> None:
    assert events_of_line('log.info("x", extra={"event": "registry.new_thing"})') == {"registry.new_thing"}


KEPT = ["plain", "通义千问@llm", 'quotes " and \\', "\U0001f600", "a\nb\r\n", "\x1b[2J\x07", "\x7f", "\u202egnp"]
KEPT += ["\u2028", "\x85", "\u200b", "\U000e0041", ""]
"""Texts that a reader gets back as they were."""


@pytest.mark.parametrize("text", KEPT)
def test_a_text_is_one_printable_line_and_comes_back(text: str) -> None:
    line = json_line({"name": text, text: 1})
    assert line.isprintable()
    assert json.loads(line) == {"name": text, text: 1}


def test_letters_of_all_languages_can_be_searched_for() -> None:
    assert json_line({"a": "通义@llm é \U0001f600"}) == '{"a":"通义@llm é \U0001f600"}'


@pytest.mark.parametrize("half", ["\ud800", "x\udc80y"])
def test_half_of_a_surrogate_pair_is_replaced(half: str) -> None:
    line = json_line({"a": half})
    line.encode()
    assert "\ufffd" in json.loads(line)["a"]


def test_a_value_that_json_lacks_is_its_text() -> None:
    assert json_line({"a": datetime(2026, 1, 2, tzinfo=UTC)}) == '{"a":"2026-01-02 00:00:00+00:00"}'


def test_times_are_in_utc_with_milliseconds() -> None:
    east = timezone(timedelta(hours=8))
    assert utc_time(datetime(2026, 1, 2, 11, 4, 5, 678999, tzinfo=east)) == "2026-01-02T03:04:05.678Z"
