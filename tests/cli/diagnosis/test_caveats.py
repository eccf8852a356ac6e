"""What is said before an answer is trusted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dbgpt_ctl.cli.diagnosis.caveats import caveat_fields, caveat_lines, refuse_stale
from dbgpt_ctl.cli.framework.session import Session
from dbgpt_ctl.client.results import Inventory
from dbgpt_ctl.errors import StaleList
from dbgpt_ctl.settings.schema import ClientSettings
from tests.support.fake_controller import listed

URL = "http://10.0.0.1:8000"
NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
STALE = f"{URL}: its registry is away; this is what was known 90s ago"


def answer(*objects: dict[str, object], stale: bool = False, held: bool = False) -> Inventory:
    return Inventory(
        list(objects),
        complete=True,
        controller=URL,
        time=NOW,
        stale_since=NOW - timedelta(seconds=90) if stale else None,
        held_until=NOW + timedelta(seconds=40) if held else None,
    )


def test_a_fresh_answer_needs_no_warning() -> None:
    assert caveat_lines(answer(), NOW) == []
    assert caveat_fields(answer()) == {"stale_since": None, "held_until": None}


@pytest.mark.parametrize(
    ("held", "shown"),
    [
        ([], "some instances are shown as they were before"),
        ([True, False], "1 instance is shown as it was before"),
        ([True, True], "2 instances are shown as they were before"),
    ],
)
def test_each_fact_is_one_warning(held: list[bool], shown: str) -> None:
    objects = [{**listed("qwen@llm"), "state": "healthy", "held": each} for each in held]
    assert caveat_lines(answer(*objects, stale=True, held=True), NOW) == [
        f"warning: {STALE} [registry-stale]",
        f"warning: {URL}: its registry was away; until 12:00:40 UTC, {shown} [states-held]",
    ]


def test_a_stale_answer_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StaleList) as raised:
        refuse_stale(Session(ClientSettings()), answer(stale=True), "nothing was done", allow_stale=False)
    assert str(raised.value) == f"{STALE}; nothing was done; --allow-stale relies on that list"
    assert raised.value.exit_code == 3
    assert capfd.readouterr().err == "", "the error says it"


def test_a_command_that_asks_again_and_again_says_a_fact_once(capfd: pytest.CaptureFixture[str]) -> None:
    session = Session(ClientSettings())
    for seconds in (0, 1, 2):
        later = replace(answer(stale=True, held=True), time=NOW + timedelta(seconds=seconds))
        refuse_stale(session, later, "nothing was done", allow_stale=True)
    assert [line.rpartition(" ")[2] for line in capfd.readouterr().err.splitlines()] == [
        "[registry-stale]",
        "[states-held]",
    ]


def test_quiet_silences_it(capfd: pytest.CaptureFixture[str]) -> None:
    refuse_stale(Session(ClientSettings(), quiet=True), answer(held=True), "nothing was done", allow_stale=False)
    assert capfd.readouterr().err == ""
