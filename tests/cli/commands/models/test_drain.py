"""`ctl models drain`, and what it shares with undrain: against real controllers, failing ones, and DB-GPT's own."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.completion.test_protocol import offered
from tests.cli.schemas import validated
from tests.support.fake_controller import fake_controller, listed

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

REF = "qwen@llm/10.0.0.4:8001"
TWIN = "qwen@llm/10.0.0.5:8001"
SERVICE = "WorkerManager@service/10.0.0.4:8001"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
IN_MEMORY = "ctl: the registry is in the controller's memory: the drain ends with its process\n"


def routable(run: Run) -> list[str]:
    return run("models", "list", "--healthy-only", "-o", "name", "-q").lines


def not_dbgpts(answer: Any) -> Any:
    """An `answer` of a controller without /api/v1."""
    return lambda path: (404, b'{"detail": "Not Found"}') if "/api/v1/" in path else answer(path)


def test_a_drained_one_gets_no_requests(run: Run, controller: str) -> None:
    run("models", "register", REF, TWIN)
    done = run("models", "drain", "qwen/10.0.0.4:8001")
    assert (done.out, done.err) == (f"{REF} drained\n", IN_MEMORY)
    assert routable(run) == [TWIN]


def test_a_drain_survives_a_register_and_ends_with_undrain(run: Run, controller: str) -> None:
    run("models", "register", REF)
    run("models", "drain", REF, "--force")
    run("models", "register", REF)
    assert routable(run) == []
    done = run("models", "undrain", REF)
    assert (done.out, done.err) == (f"{REF} undrained\n", "")
    assert routable(run) == [REF]


def test_both_may_be_repeated(run: Run, controller: str) -> None:
    run("models", "register", REF, TWIN)
    for verb in ("drain", "drain", "undrain", "undrain"):
        run("models", verb, REF)
    assert routable(run) == [REF, TWIN]


def test_several_are_one_line_each_and_one_warning(run: Run, controller: str) -> None:
    run("models", "register", REF, TWIN)
    done = run("models", "drain", REF, TWIN, REF, "--force")
    assert (done.lines, done.err) == ([f"{REF} drained", f"{TWIN} drained"], IN_MEMORY)
    assert run("models", "drain", REF, "--force", "-q").err == ""


def test_the_reason_is_kept(run: Run, controller: str) -> None:
    run("models", "register", REF)
    run("models", "drain", REF, "--force", "--reason", "bad gpu")
    assert "bad gpu" in run("models", "get", REF).out


def test_a_drain_for_a_time_says_until_when(run: Run, controller: str) -> None:
    run("models", "register", REF)
    done = run("models", "drain", REF, "--force", "--for", "2h")
    assert re.fullmatch(rf"{re.escape(REF)} drained until {TIME}, in 2h\n", done.out)
    assert routable(run) == []


def test_draining_again_says_what_it_changes_of_the_end(run: Run, controller: str) -> None:
    run("models", "register", REF)
    lines = [
        run("models", "drain", REF, "--force", *args).out for args in ([], [], ["--for", "2h"], ["--for", "3d"], [], [])
    ]
    expected = [
        "drained",
        "drained",
        f"drained until {TIME}, in 2h; before: until undrain",
        f"drained until {TIME}, in 3d; before: until {TIME}, in 2h",
        f"drained until undrain; before: until {TIME}, in 3d",
        "drained",
    ]
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(rf"{re.escape(REF)} {pattern}\n", line)


@pytest.mark.parametrize(
    ("args", "query"),
    [((REF,), "?model_name=qwen%40llm"), ((REF, "bge@text2vec/h:1"), ""), (("--host", "10.0.0.4", "--yes"), "")],
)
def test_what_there_was_before_costs_one_list(run: Run, controller: str, args: tuple[str, ...], query: str) -> None:
    run("models", "register", REF, TWIN, "bge@text2vec/h:1", "bge@text2vec/h:2")
    lists = [line for line in run("models", "drain", *args, "-v").err.splitlines() if "GET http" in line]
    assert [line.split(": 200")[0] for line in lists] == [f"ctl: GET {controller}/api/v1/instances{query}"]


def test_what_the_drains_of_several_were_before(run: Run, controller: str) -> None:
    run("models", "register", REF, TWIN)
    run("models", "drain", REF, "--force")
    first, second = run("models", "drain", REF, TWIN, "--force", "--for", "2h").lines
    assert first.endswith("; before: until undrain")
    assert "before" not in second


def test_a_drain_for_a_time_in_json(run: Run, controller: str) -> None:
    run("models", "register", REF)
    (told,) = validated(
        "models-drain", json.loads(run("models", "drain", REF, "--force", "--for", "90m", "-o", "json").out)
    )
    began, ends = (datetime.fromisoformat(told["drain"][key]) for key in ("since", "until"))
    assert ends - began == timedelta(minutes=90)
    (told,) = validated("models-undrain", json.loads(run("models", "undrain", REF, "-o", "json").out))
    assert told["drain"] is None


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("2", "write 2s, 2m, 2h or 2d"),
        ("500ms", "of at least 1s and at most 366d"),
        ("0s", "of at least 1s and at most 366d"),
        ("367d", "of at least 1s and at most 366d"),
        ("tomorrow", "of at least 1s and at most 366d"),
    ],
)
def test_a_time_that_no_drain_can_have_is_refused_before_anything_is_sent(
    run: Run, fake: FakeController, text: str, fix: str
) -> None:
    err = run("models", "drain", REF, "--for", text, expect=2).err
    assert f"--for '{text}'" in err
    assert fix in err
    assert fake.requests == []


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 256, "\u3164"])
def test_a_reason_is_one_line(run: Run, fake: FakeController, reason: str) -> None:
    assert "--reason" in run("models", "drain", REF, "--reason", reason, expect=2).err
    assert fake.requests == []


def test_a_host_is_all_of_it_but_services(run: Run, controller: str) -> None:
    run("models", "register", REF, TWIN, SERVICE, "bge@text2vec/10.0.0.4:1", "qwen/10.0.0.44:1")
    done = run("models", "drain", "--host", "10.0.0.4", "-o", "name", "-y", "--force")
    assert done.lines == ["bge@text2vec/10.0.0.4:1", REF]
    assert done.err.startswith(f"ctl: skipped: {SERVICE}: a selector takes type service only with --type service\n")
    assert routable(run) == [SERVICE, "qwen@llm/10.0.0.44:1", TWIN]
    assert run("models", "undrain", "--host", "10.0.0.4", "-o", "name", "-y").lines == ["bge@text2vec/10.0.0.4:1", REF]


def test_the_services_of_a_host(run: Run, controller: str) -> None:
    run("models", "register", REF, SERVICE)
    assert run("models", "drain", "--host", "10.0.0.4", "--type", "service", "-y", "-o", "name").lines == [SERVICE]


def test_a_service_by_reference_needs_force(run: Run, controller: str) -> None:
    run("models", "register", REF, SERVICE)
    done = run("models", "drain", REF, SERVICE, expect=2)
    assert done.err.startswith(f"ctl: {SERVICE} is of type service: DB-GPT finds")
    assert "--force" in done.err
    assert routable(run) == [SERVICE, REF]
    run("models", "drain", SERVICE, "--force")
    assert run("models", "undrain", SERVICE).out == f"{SERVICE} undrained\n"


@pytest.mark.parametrize(
    "args",
    [
        ("drain",),
        ("undrain",),
        ("drain", REF, "--host", "h"),
        ("drain", "--host", "h"),
        ("undrain", "--host", "h"),
        ("drain", "--host", "http://h", "-y"),
        ("drain", "qwen"),
        ("drain", REF, "--wait", "--timeout", "soon"),
        ("prune",),
        ("prune", "--older-than", "7w", "-y"),
        ("prune", "--older-than", "0d", "-y"),
        ("prune", "--older-than", "9999d", "-y"),
        ("prune", "--older-than", "7d"),
    ],
)
def test_wrong_usage_is_2_and_sends_nothing(run: Run, fake: FakeController, args: tuple[str, ...]) -> None:
    assert run("models", *args, expect=2).err.count("\n") == 1
    assert fake.requests == []


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_an_unknown_name_gets_a_suggestion(run: Run, controller: str, verb: str) -> None:
    run("models", "register", REF, TWIN)
    done = run("models", verb, "qwen/10.0.0.4:8002", REF, expect=4)
    assert done.out == f"{REF} {verb}ed\n"
    assert f"ctl: qwen@llm/10.0.0.4:8002: not registered; did you mean {REF}?\n" in done.err


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_json_keeps_to_its_schema(run: Run, controller: str, verb: str) -> None:
    run("models", "register", REF, TWIN)
    done = run("models", verb, REF, "nix/h:1", "-o", "json", expect=4)
    worked, failed = validated(f"models-{verb}", json.loads(done.out))
    assert (worked["result"], worked["state"], worked["durable"]) == (f"{verb}ed", "healthy", False)
    assert (failed["result"], failed["error"]) == ("failed", "not_found")


@pytest.mark.parametrize(
    "args",
    [
        ("drain", REF),
        ("drain", REF, "--for", "2h"),
        ("drain", "--host", "h", "-y"),
        ("undrain", REF),
        ("prune", "--older-than", "7d", "-y"),
    ],
)
def test_dbgpts_own_controller_is_not_supported(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.setattr(fake, "answer", not_dbgpts(fake.answer))
    done = run("models", *args, expect=6)
    assert "has no /api/v1" in done.err
    assert done.err.count("\n") == 1


def test_when_no_controller_answers_the_rest_is_not_tried(run: Run, fake: FakeController) -> None:
    fake.status, fake.body = 503, {"detail": "away"}
    done = run("models", "undrain", REF, TWIN, "-o", "json", expect=3)
    assert f"ctl: 1 not tried: {TWIN}\n" in done.err
    assert [each["result"] for each in validated("models-undrain", json.loads(done.out))] == ["failed", "not tried"]


def test_a_drain_is_not_tried_without_a_list(run: Run, fake: FakeController) -> None:
    fake.status, fake.body = 503, {"detail": "away"}
    done = run("models", "drain", REF, TWIN, "-o", "json", expect=3)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert {request.split()[0] for request in fake.requests} == {"GET"}


def test_wait_calls_every_controller(run: Run, controller: str) -> None:
    run("models", "register", REF)
    with fake_controller(body=[listed("qwen@llm", port=9)]) as other:
        run("models", "drain", REF, "--force", "--wait", "-a", f"{controller},{other.url}")
        assert other.requests == ["GET /api/controller/models?model_name=qwen%40llm&healthy_only=true"]


def test_wait_is_not_over_while_one_controller_lists_it(run: Run, controller: str) -> None:
    run("models", "register", REF)
    with fake_controller(body=[listed("qwen@llm")]) as other:
        where = ("-a", f"{controller},{other.url}", "-q")
        done = run("models", "drain", REF, "--force", "--wait", "--timeout", "1ms", *where, expect=5)
        assert done.out == f"{REF} drained\n"
        assert done.err == f"ctl: {REF}: drained, but {other.url} did not follow within 0.001s\n"
        done = run("models", "drain", REF, "--force", "--wait", "--timeout", "1ms", "-o", "json", *where, expect=5)
        (told,) = validated("models-drain", json.loads(done.out))
        assert (told["result"], told["error"]) == ("drained", "condition_not_met")


def test_wait_skips_a_controller_that_does_not_answer(run: Run, controller: str) -> None:
    run("models", "register", REF)
    done = run("models", "drain", REF, "--force", "--wait", "-a", f"{controller},http://127.0.0.1:1")
    assert done.out == f"{REF} drained\n"
    assert "ctl: not waiting for it: " in done.err


@pytest.mark.parametrize("verb", ["drain", "undrain"])
def test_tab_offers_live_references(run: Run, fake: FakeController, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.body = [listed("qwen@llm"), listed("bge@text2vec")]
    assert offered("models", verb, "q", run=run, monkeypatch=monkeypatch) == [REF]
