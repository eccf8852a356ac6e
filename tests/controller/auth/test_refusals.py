"""The table of refused requests: what it counts, and that strangers cannot fill it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from dbgpt_ctl.auth.tokens import Reason
from dbgpt_ctl.controller.auth.refusal_log import MAX_KEPT, MAX_SHOWN_CHARS, RefusalLog, RefusedRequest
from dbgpt_ctl.controller.auth.refusals import QUIET, RefusalTable, RefusalTally, RefusedWorker, network_of
from dbgpt_ctl.domain.instance import InstanceKey
from tests.support.clock import START, ManualClock

KEY = InstanceKey("a@llm", "b", 1)
WORKER = RefusedRequest(Reason.NONE, "10.0.0.4", b"python-httpx/0.27.0", None, None, "POST /api/controller/heartbeat")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def table(clock: ManualClock, rows: int = 10, of_source: int = 5) -> RefusalTable:
    return RefusalTable(clock.now, RefusalLog(), max_rows=rows, max_rows_of_source=of_source)


def agents(source: str, number: int) -> list[RefusedRequest]:
    return [WORKER._replace(source=source, user_agent=b"agent %d" % each) for each in range(number)]


def scope(**fields: Any) -> dict[str, Any]:
    headers = [(b"user-agent", fields.pop("agent", b"curl/8"))]
    return {"method": "GET", "path": "/api/v1/status", "headers": headers, "client": ("10.0.0.4", 1), **fields}


def test_equal_requests_are_one_row_with_its_times(clock: ManualClock) -> None:
    refusals = table(clock)
    refusals.count(WORKER, served=True)
    later = clock.advance(20)
    refusals.count(WORKER, served=True)
    assert dict(refusals.rows()) == {WORKER: RefusalTally(START, later, served=True, count=2)}
    assert (refusals.since, refusals.other) == (START, {})


def test_requests_that_were_served_are_not_counted_as_refused(clock: ManualClock) -> None:
    """When enforce mode begins, nobody may believe that it has refused what log mode served."""
    refusals = table(clock)
    for _ in range(60):
        refusals.count(WORKER, served=True)
    later = clock.advance(20)
    refusals.count(WORKER, served=False)
    assert dict(refusals.rows()) == {WORKER: RefusalTally(later, later, served=False, count=1)}


def test_refused_workers_are_counted_by_caller_whatever_text_they_send(clock: ManualClock) -> None:
    """A register counts too. What was served, what is old, and calls of others are no refused workers."""
    refusals = table(clock)
    refusals.count(WORKER._replace(source="10.0.0.5"), served=False)
    clock.advance(QUIET.total_seconds())
    refusals.count(WORKER, served=False)
    clock.advance(20)
    refusals.count(WORKER._replace(user_agent=b"other", action="POST /api/controller/models"), served=False)
    refusals.count(WORKER._replace(reason=Reason.HOSTS, token="w", instance=KEY), served=False)
    refusals.count(WORKER._replace(source="10.0.0.6"), served=True)
    refusals.count(WORKER._replace(action="GET /api/controller/models"), served=False)
    clock.advance(3)
    age = timedelta(seconds=3)
    assert list(refusals.workers()) == [
        RefusedWorker(Reason.NONE, "10.0.0.4", None, None, 2, age),
        RefusedWorker(Reason.HOSTS, "10.0.0.4", "w", KEY, 1, age),
    ]


def test_a_source_that_sends_ever_other_agents_has_few_rows_and_all_are_counted(clock: ManualClock) -> None:
    refusals = table(clock)
    for request in agents("10.6.6.6", 5000):
        refusals.count(request, served=False)
    refusals.count(WORKER, served=False)
    rows = dict(refusals.rows())
    assert len(rows) == 6
    assert rows[WORKER].count == 1
    assert refusals.other[Reason.NONE].count == 4995


def test_sources_that_fill_the_table_make_way_for_one_that_has_fewer_rows(clock: ManualClock) -> None:
    refusals = table(clock)
    for source in ("10.6.6.6", "10.6.6.7"):
        for request in agents(source, 100):
            refusals.count(request, served=False)
    refusals.count(WORKER, served=False)
    assert dict(refusals.rows())[WORKER].count == 1
    assert len(list(refusals.rows())) == 10
    assert refusals.other[Reason.NONE].count == 191


def test_a_host_with_a_network_of_addresses_is_one_source(clock: ManualClock) -> None:
    refusals = table(clock)
    for number in range(100):
        refusals.count(WORKER._replace(source=f"2001:db8::{number:x}"), served=False)
    assert len(list(refusals.rows())) == 5


def test_many_sources_cannot_push_out_the_row_of_a_worker_that_still_sends(clock: ManualClock) -> None:
    """As the scanners of the Internet do: each comes once."""
    refusals = table(clock)
    for number in range(2000):
        if number % 4 == 0:
            refusals.count(WORKER, served=False)
        refusals.count(WORKER._replace(source=f"10.6.{number // 200}.{number % 200}"), served=False)
        clock.advance(5)
    assert len(list(refusals.rows())) == 10
    assert dict(refusals.rows())[WORKER].count == 500
    assert refusals.other[Reason.NONE].count + sum(tally.count for _, tally in refusals.rows()) == 2500


def test_what_was_not_seen_for_long_leaves_a_full_table_for_what_is_new(clock: ManualClock) -> None:
    refusals = table(clock, rows=2)
    for source in ("10.0.0.1", "10.0.0.2"):
        refusals.count(WORKER._replace(source=source), served=True)
    refusals.count(WORKER, served=True)
    assert [request.source for request, _ in refusals.rows()] == ["10.0.0.1", "10.0.0.2"]
    clock.advance(QUIET.total_seconds())
    refusals.count(WORKER, served=False)
    assert [request.source for request, _ in refusals.rows()] == ["10.0.0.2", "10.0.0.4"]
    assert refusals.other == {Reason.NONE: RefusalTally(START, START, served=True, count=2)}


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.0.0.4", "10.0.0.4"),
        ("::ffff:10.0.0.4", "10.0.0.4"),
        ("2001:db8::7", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a:b", "a:b"),
        (None, None),
    ],
)
def test_the_network_of_an_address(address: str | None, source: str | None) -> None:
    assert network_of(address) == source


def test_a_request_is_described_by_its_scope() -> None:
    request = RefusedRequest.of(Reason.ROLE, scope(path="//api/v1/status"), label="ci", token="w1", instance=KEY)
    assert request == (Reason.ROLE, "10.0.0.4", b"curl/8", "ci", "w1", "GET /api/v1/status", KEY)
    assert RefusedRequest.of(Reason.NONE, scope(headers=[], client=None))[1:4] == (None, b"", None)


def test_the_texts_of_a_stranger_are_bounded_escaped_and_without_tokens() -> None:
    token = "dctl_" + "aB3-" * 10 + "xyz"
    hostile = f"\x1b]0;pwned\x07\r\nforged line {token} \u202e" + "x" * 70_000
    request = RefusedRequest.of(Reason.NONE, scope(agent=hostile.encode()[:-2], path=f"/{token}"), label=hostile)
    assert len(request.user_agent) == MAX_KEPT
    assert request.label is not None
    assert len(request.label) == MAX_KEPT
    for text in (request.shown_user_agent, request.shown_label, request.shown_action):
        assert text is not None
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= MAX_SHOWN_CHARS
        assert "dctl_" not in text
    assert request.shown_action == "GET /********"


def test_a_token_is_hidden_before_the_text_is_cut() -> None:
    agent = b"x" * (MAX_SHOWN_CHARS - 20) + b" " + b"aB3" * 30
    assert RefusedRequest.of(Reason.NONE, scope(agent=agent)).shown_user_agent.endswith(" ********")


def test_a_replaced_token_that_is_used_is_no_refusal(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    refusals = table(clock)
    refusals.count(WORKER._replace(reason=Reason.OLD_TOKEN), served=True)
    assert len(list(refusals.rows())) == 1
    assert caplog.messages == []
