"""`ctl auth status`, over answers that the test makes; real ones are in tests/controller/auth."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dbgpt_ctl.cli.commands.auth.status import MAX_SHOWN
from tests.cli.schemas import validated
from tests.cli.test_process import NOBODY, on_terminal
from tests.support.auth_reports import at, other, report, row, token
from tests.support.fake_controller import FakeController, fake_controller

if TYPE_CHECKING:
    from tests.cli.conftest import Run

HOSTILE = "\x1b]0;pwned\x07\u202e\x9b2J"


def document(run: Run, *args: str, expect: int = 0) -> Any:
    return validated("auth-status", json.loads(run("auth", "status", "-o", "json", *args, expect=expect).out))


def test_what_log_mode_serves_is_the_list_to_work_off(run: Run, fake: FakeController) -> None:
    workers = token("workers", models=["qwen*@llm"], hosts=["10.0.0.0/24"], max_instances=8, last_used=at(3))
    fake.body = report(row(count=1234), row("unknown", label="w9", ago=150), tokens=(workers, token("gone", valid=0)))
    assert run("auth", "status").lines == [
        f"{'CONTROLLER':<{len(fake.url)}}  MODE  SET BY       TOKENS            COUNTS SINCE",
        f"{fake.url}  log   tokens file  2 (1a2b3c4d5e6f)  2h ago",
        "",
        "TOKEN    ROLE    SCOPE                              EXPIRES  LAST USED  OLD ONE USED",
        "workers  worker  qwen*@llm, 10.0.0.0/24, at most 8  never    3s ago     -",
        "gone     worker  -                                  revoked  never      -",
        "",
        "1,237 requests would be refused in enforce mode:",
        "REASON   COUNT  LAST     FROM           REQUEST    INSTANCE                 USER AGENT",
        "none     1,234  12s ago  10.0.0.4       heartbeat  qwen3@llm/10.0.0.4:8001  python-httpx/0.27.0",
        "unknown  3      2m ago   10.0.0.4 (w9)  heartbeat  qwen3@llm/10.0.0.4:8001  python-httpx/0.27.0",
    ]


def test_in_enforce_mode_they_were_refused(run: Run, fake: FakeController) -> None:
    fake.body = report(
        row("models", served=False, token="workers", label="workers", request="POST /api/controller/models"),
        row(served=False, request="GET /.env", model_name=None, host=None, port=None),
        mode="enforce",
        others=(other("unknown"),),
    )
    lines = run("auth", "status").lines
    assert "13 requests were refused:" in lines
    assert "10.0.0.4 (token workers)  register " in lines[5]
    assert lines[6].split() == ["none", "3", "12s", "ago", "10.0.0.4", "GET", "/.env", "-", "python-httpx/0.27.0"]
    assert lines[7] == "and 7 requests from callers beyond the table's bound: unknown, 30s ago"


def test_what_was_served_before_enforce_mode_is_told_apart(run: Run, fake: FakeController) -> None:
    fake.body = report(row(count=1), row("unknown", count=1, served=False), mode="enforce")
    lines = run("auth", "status").lines
    assert "1 request was served in log mode, which enforce mode refuses:" in lines
    assert "1 request was refused:" in lines


def test_a_token_that_has_expired(run: Run, fake: FakeController) -> None:
    fake.body = report(tokens=(token("night", expires=at(5)),))
    assert run("auth", "status").lines[4].split()[3:7] == ["expired", "5s", "ago", "never"]


def test_a_rotated_token_that_is_used_is_no_refusal(run: Run, fake: FakeController) -> None:
    fake.body = report(
        row("old-token", token="api"), tokens=(token("api", valid=2, last_used=at(1), old_last_used=at(400)),)
    )
    lines = run("auth", "status", "--check").lines
    assert lines[4] == "api    worker  -      never    1s ago     6m ago"
    assert lines[6:8] == ["no request is refused", ""]
    assert lines[8] == "3 requests came with the old one of a token that was rotated:"


def test_since_leaves_out_who_was_not_seen(run: Run, fake: FakeController) -> None:
    fake.body = report(row(ago=30), row("unknown", ago=700), others=(other(ago=900),))
    refusals = document(run, "--since", "10m")["controllers"][0]["auth"]["refusals"]
    assert [each["reason"] for each in refusals["rows"]] == ["none"]
    assert refusals["other"] == []
    assert len(document(run, "--since", "20m")["controllers"][0]["auth"]["refusals"]["other"]) == 1
    assert "no request is refused" in run("auth", "status", "--since", "2026-01-02T13:00:00Z").out


def test_check_is_met_when_nobody_is_refused(run: Run, fake: FakeController) -> None:
    fake.body = report(row(ago=700))
    assert document(run, "--check")["check"] == {"met": True, "unmet": []}
    assert document(run)["check"] is None
    assert run("auth", "status", "--check").err == ""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (report(row(count=5)), "enforce mode would refuse 5 requests, the last one 12s ago"),
        (report(row(count=1, served=False), mode="enforce"), "enforce mode refused 1 request, the last one 12s ago"),
        (report(others=(other(),)), "enforce mode would refuse 7 requests, the last one 30s ago"),
        (report(row("reason-of-a-newer-release")), "enforce mode would refuse 3 requests, the last one 12s ago"),
        (report(mode="off"), "nothing is counted in mode off; to count, type: ctl auth mode log"),
        (report(since=60), "it has counted for 60s only; ask again in 9m"),
        (report(problem="line 3: no TOML"), "its tokens file is not in force: line 3: no TOML"),
    ],
)
def test_check_is_not_met_while_enforce_would_refuse_or_nobody_knows(
    run: Run, fake: FakeController, answer: dict[str, Any], why: str
) -> None:
    fake.body = answer
    assert document(run, "--check", expect=5)["check"] == {"met": False, "unmet": [f"{fake.url}: {why}"]}
    assert run("auth", "status", "--check", expect=5).err == f"ctl: {fake.url}: {why}\n"
    assert run("auth", "status").err == ""


def test_every_controller_counts_for_itself(run: Run, fake: FakeController) -> None:
    fake.body = report(row(), tokens=(token("w", last_used=at(90)),))
    with fake_controller(
        body=report(mode="enforce", digest="ffffffffffff", tokens=(token("w", last_used=at(5)),))
    ) as two:
        done = run("auth", "status", "-a", f"{fake.url},{two.url}")
        both = document(run, "--check", "-a", f"{fake.url},{two.url}", expect=5)
    modes = f"the controllers differ in their mode: log at {fake.url}; enforce at {two.url}"
    digests = f"the controllers differ in their tokens: 1a2b3c4d5e6f at {fake.url}; ffffffffffff at {two.url}"
    assert done.lines[3:5] == [f"warning: {modes}", f"warning: {digests}"]
    assert done.lines[7] == "w      worker  -      never    5s ago     -"
    assert done.lines[10].endswith("USER AGENT           CONTROLLER")
    assert done.lines[11].endswith(fake.url)
    assert both["differences"] == both["check"]["unmet"][1:] == [modes, digests]


def test_one_that_does_not_answer_or_is_older_is_a_line(run: Run, fake: FakeController) -> None:
    fake.body = report()
    with fake_controller() as stock:
        done = run("auth", "status", "-a", f"{fake.url},{stock.url},{NOBODY}")
        assert [line.split()[1] for line in done.lines[1:4]] == ["log", "unknown", "unknown"]
        assert done.lines[4].startswith(f"warning: {stock.url} does not support this: it has no /api/v1/auth")
        assert done.lines[5].startswith(f"warning: no controller answers: {NOBODY}: Connection refused")
        assert run("auth", "status", "--check", "-a", f"{fake.url},{NOBODY}", expect=3).err.count("\n") == 1
        err = run("auth", "status", "-a", stock.url, expect=6).err
    assert err.count("\n") == 1
    assert "is DB-GPT's own controller or an older ctl" in err
    assert run("auth", "status", "-a", NOBODY, expect=3).out == ""


def test_who_is_not_allowed_to_ask_is_7(run: Run, fake: FakeController) -> None:
    fake.status, fake.body = 403, {"detail": "role reader may not do this", "code": "not_permitted"}
    assert run("auth", "status", expect=7).err.count("\n") == 1


def test_nothing_hostile_reaches_a_terminal(run: Run, fake: FakeController) -> None:
    texts: dict[str, Any] = dict.fromkeys(
        ("source", "user_agent", "label", "token", "request", "model_name", "host"), HOSTILE
    )
    fake.body = report(
        row(**texts),
        tokens=(token(HOSTILE, role=HOSTILE, models=[HOSTILE], hosts=[HOSTILE]),),
        digest=HOSTILE,
        problem=HOSTILE,
    )
    for form in ("text", "json", "yaml"):
        out = run("auth", "status", "-o", form).out
        assert all(char.isprintable() or char == "\n" for char in out), form
    for columns in (80, 200):
        shown = "\n".join(on_terminal("auth", "status", "-a", fake.url, columns=columns))
        assert "pwned" in shown
        assert "\x1b]" not in shown
        assert "\u202e" not in shown


def test_a_pipe_gets_all_rows_and_a_terminal_as_many_as_a_person_reads(run: Run, fake: FakeController) -> None:
    fake.body = report(
        *(row(source=f"10.1.{number // 250}.{number % 250}", count=number + 1) for number in range(1000))
    )
    assert len(run("auth", "status").lines) == 5 + 1000
    shown = on_terminal("auth", "status", "-a", fake.url, columns=200)
    assert f"and {1000 - MAX_SHOWN} more rows; a pipe and -o json get all" in shown
    assert document(run)["controllers"][0]["auth"]["mode"] == "log"


def test_on_a_terminal_each_controller_has_a_table_that_fits(fake: FakeController) -> None:
    fake.body = report(row(), row(source="10.0.0.9", count=1, served=False))
    with fake_controller(body=report(row(count=7))) as two:
        lines = on_terminal("auth", "status", "-a", f"{fake.url},{two.url}", columns=80)
    shown = [line.rstrip() for line in lines]
    for title in (
        f"3 requests would be refused in enforce mode at {fake.url}:",
        f"7 requests would be refused in enforce mode at {two.url}:",
        f"1 request was refused at {fake.url}:",
    ):
        header = shown[shown.index(title) + 1]
        assert header.startswith("REASON ")
        assert len(header) <= 80


def test_a_real_controller_without_tokens_counts_nothing(run: Run, controller: str) -> None:
    assert document(run, "--check", expect=5)["check"]["met"] is False
    lines = run("auth", "status").lines
    assert lines[1].split() == [controller, "off", "setting", "0", "-"]
    assert lines[-1].endswith("it reads no tokens file: restart it with --tokens-file and --auth log")


def test_malformed_answers_are_no_answers(run: Run, fake: FakeController) -> None:
    fake.body = {**report(), "refusals": {"since": "yesterday", "rows": [], "other": []}}
    assert "is not a DB-GPT controller" in run("auth", "status", expect=3).err
    fake.body = report(row(count=int("9" * 4300)), row())  # Python reads the number, and fails to print the sum
    assert "is not a DB-GPT controller" in run("auth", "status", expect=3).err
