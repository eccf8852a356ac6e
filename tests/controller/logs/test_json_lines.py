"""A JSON line is one line of valid JSON, whatever its texts hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dbgpt_ctl.controller.logs.json_lines import json_line, utc_time

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
