"""The parameters of /api/v1: filters, cursors, times, and fields that it does not know."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dbgpt_ctl.controller.http.v1_params import Cursor, parse_event_filter, parse_instance_filter, reject_unknown_fields
from dbgpt_ctl.domain.instance import (
    DrainFacts,
    InstanceKey,
    InstanceState,
    ListedInstance,
    ModelInstance,
    Registration,
)
from dbgpt_ctl.errors import InvalidInstance

ONE = InstanceKey("qwen@llm", "10.0.0.4", 8001)
FACTS = ModelInstance.first(Registration(ONE), datetime(2026, 1, 2, tzinfo=UTC))
HEALTHY = ListedInstance(FACTS, InstanceState.HEALTHY, None)
DRAINED = ListedInstance(FACTS, InstanceState.HEALTHY, DrainFacts())
SILENT_AND_DRAINED = ListedInstance(FACTS, InstanceState.UNHEALTHY, DrainFacts())


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({}, True),
        ({"model_name": "", "host": "", "port": "", "state": ""}, True),
        ({"model_name": "qwen@llm"}, True),
        ({"model_name": "qwen@llm", "host": "10.0.0.5"}, False),
        ({"host": "10.0.0.4", "port": "8001"}, True),
        ({"port": "8002"}, False),
    ],
)
def test_a_filter_selects_what_matches_every_field(query: dict[str, str], matches: bool) -> None:
    assert parse_instance_filter(query).matches_key(ONE) is matches
    assert parse_instance_filter(query).matches(HEALTHY) is matches


@pytest.mark.parametrize(
    ("state", "matching"),
    [
        ("", [HEALTHY, DRAINED, SILENT_AND_DRAINED]),
        ("healthy", [HEALTHY, DRAINED]),
        (" Healthy ", [HEALTHY, DRAINED]),
        ("unhealthy", [SILENT_AND_DRAINED]),
        ("deregistered", []),
        ("drained", [DRAINED, SILENT_AND_DRAINED]),
    ],
)
def test_a_filter_by_state_matches_the_state_and_drained_every_drained_one(
    state: str, matching: list[ListedInstance]
) -> None:
    instance_filter = parse_instance_filter({"state": state})
    entries = [HEALTHY, DRAINED, SILENT_AND_DRAINED]
    assert [entry for entry in entries if instance_filter.matches(entry)] == matching


@pytest.mark.parametrize("text", ["", None, "s.0", "a.b.41"])
def test_a_cursor_is_parsed_as_it_is_written(text: str | None) -> None:
    cursor = Cursor.parse(text)
    assert (str(cursor) if cursor else None) == (text or None)


@pytest.mark.parametrize("text", ["s", ".1", "s.", "s.x", "s.-1", "s.9223372036854775808", "\x1b.1", "s" * 65 + ".1"])
def test_a_wrong_cursor(text: str) -> None:
    with pytest.raises(InvalidInstance, match="cursor"):
        Cursor.parse(text)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05 01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05 01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05 +0100", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05 -01:00", datetime(2026, 1, 2, 4, 4, 5, tzinfo=UTC)),
        ("2026-01-02 03:04:05 Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("", None),
    ],
)
def test_a_time_has_an_offset(text: str, time: datetime | None) -> None:
    assert parse_event_filter({"since": text, "until": text})[-2:] == (time, time)


@pytest.mark.parametrize("text", ["yesterday", "2026-01-02T03:04:05", "0001-01-01T00:00:00+23:00"])
def test_a_wrong_time(text: str) -> None:
    with pytest.raises(InvalidInstance, match="until"):
        parse_event_filter({"until": text})


def test_an_unknown_field_is_rejected() -> None:
    assert reject_unknown_fields({"reason": "x"}, "reason") == {"reason": "x"}
    with pytest.raises(InvalidInstance, match="'raeson' is not one of host, reason"):
        reject_unknown_fields({"raeson": "x"}, "host", "reason")
