"""`ctl apply`, and what it shares with diff: against a real controller, failing ones, and DB-GPT's own."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey
from dbgpt_ctl.text.times import utc_text
from tests.cli.schemas import validated
from tests.support.fake_controller import listed
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

FIRST, SECOND = "qwen@llm/10.0.0.4:8001", "qwen@llm/10.0.0.5:8001"
KEY = InstanceKey("qwen@llm", "10.0.0.4", 8001)
BEAT = (
    "is new: a register counts as one heartbeat, so it is healthy for 60s, and unhealthy after that unless its worker "
    "sends heartbeats; ctl models list --state unhealthy shows it then"
)
DEREGISTERED = (
    "apply does not revive a deregistered instance, because a register counts as a heartbeat and would send it "
    "requests; when its worker runs"
)
UNSERVED = "the last instances that API servers find are drained or removed"
UNDONE = "alive; its worker resets weight when it registers again"


def one(**facts: Any) -> dict[str, Any]:
    return {"model": "qwen", "host": "10.0.0.4", "port": 8001, **facts}


def file(*entries: dict[str, Any]) -> str:
    """A file in the folder of the test; its name."""
    Path("f.json").write_text(json.dumps({"instances": entries}))
    return "f.json"


def stored(run: Run) -> dict[int, dict[str, Any]]:
    """What is listed, by the last number of the host."""
    return {int(each["host"][-1]): each for each in json.loads(run("models", "list", "-o", "json").out)}


def writes(fake: FakeController) -> list[str]:
    return [each for each in fake.requests if not each.startswith("GET")]


def test_what_is_absent_is_created(run: Run, controller: str) -> None:
    done = run("apply", "-f", file(one(weight=2, prompt_template="chat"), one(host="10.0.0.5", check_healthy=False)))
    assert done.lines == [
        f"{FIRST} created: weight 2, prompt_template 'chat'",
        f"{SECOND} created: check_healthy false",
    ]
    assert done.err == f"ctl: warning: {FIRST} {BEAT}\n"
    found = stored(run)
    assert (found[4]["weight"], found[4]["prompt_template"], found[4]["healthy"]) == (2.0, "chat", True)
    assert found[5]["check_healthy"] is False


def test_the_second_time_nothing_changes(run: Run, controller: str) -> None:
    name = file(one(weight=2), one(host="10.0.0.5", enabled=False))
    run("apply", "-f", name)
    before = stored(run)
    done = run("apply", "-f", name, "--prune", "--yes")
    assert (done.lines, done.err) == ([f"{FIRST} unchanged", f"{SECOND} unchanged"], "")
    assert stored(run) == before


def test_a_weight_is_changed_and_the_template_kept(run: Run, controller: str) -> None:
    run("models", "register", FIRST, "--prompt-template", "chat")
    done = run("apply", "-f", file(one(weight=2.5)))
    assert done.out == f"{FIRST} changed: weight 1 -> 2.5\n"
    assert done.err == f"ctl: warning: {FIRST}: {UNDONE}\n"
    assert (stored(run)[4]["weight"], stored(run)[4]["prompt_template"]) == (2.5, "chat")


def test_enabled_false_drains_and_true_ends_it(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    done = run("apply", "-f", file(one(enabled=False)))
    assert done.out == f"{FIRST} changed: enabled true -> false\n"
    assert "the drain ends with its process" in done.err
    with ControllerClient(controller) as client:
        assert (client.get(KEY).drain or DrainFacts()).reason == "apply"
    assert run("apply", "-f", file(one(enabled=True))).out == f"{FIRST} changed: enabled false -> true\n"
    assert stored(run)[4]["enabled"] is True


def test_what_is_created_drained_never_gets_requests(run: Run, controller: str) -> None:
    done = run("apply", "-f", file(one(enabled=False)))
    assert done.out == f"{FIRST} created: enabled false\n"
    assert "the drain ends with its process" in done.err
    with ControllerClient(controller) as client:
        (event,) = client.events().events
        assert (event.change.old, event.change.new, event.change.drained) == ("absent", "healthy", True)
        assert (event.change.cause.verb, event.change.cause.reason) == ("register", "apply")
        assert (client.get(KEY).drain or DrainFacts()).reason == "apply"


def test_a_known_one_that_changes_and_is_drained_does_both_in_one_call(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    done = run("apply", "-f", file(one(weight=2, drain={"reason": "new disk"})))
    assert done.out == f"{FIRST} changed: weight 1 -> 2, enabled true -> false, drain_reason none -> 'new disk'\n"
    assert f"warning: qwen@llm gets no requests after this: {UNSERVED}" in done.err
    with ControllerClient(controller) as client:
        _, event = client.events().events
        assert (event.change.drained, event.change.cause.verb, event.change.cause.reason) == (
            True,
            "register",
            "new disk",
        )
        assert client.get(KEY).weight == 2.0


def test_an_older_ctl_gets_two_calls_and_is_asked_once(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer to a register does not show that it drains; the answer to a drain does."""
    whole = {"version": 1, "time": "2026-01-02T12:00:00+00:00", "instances": []}
    drained = {**whole, "durable": True, "instance": {**listed("qwen@llm"), "state": "healthy"}}
    answers = {
        "/api/v1/instances": (200, whole),
        "/api/v1/register": (404, {"detail": "Not Found"}),
        "/api/controller/models": (200, True),
        "/api/controller/models?model_name=none%40ctl": (200, []),
        "/api/v1/drain": (200, drained),
    }

    def answer(path: str) -> tuple[int, bytes]:
        status, body = answers[path]
        return status, json.dumps(body).encode()

    monkeypatch.setattr(fake, "answer", answer)
    done = run("apply", "-q", "-f", file(one(enabled=False), one(host="10.0.0.5", enabled=False)))
    assert done.lines == [f"{FIRST} created: enabled false", f"{SECOND} created: enabled false"]
    two_calls = ["POST /api/controller/models", "POST /api/v1/drain"]
    assert writes(fake) == ["POST /api/v1/register", *two_calls, *two_calls]
    answers["/api/v1/drain"] = (503, {"detail": "away"})
    done = run("apply", "-q", "-f", file(one(enabled=False)), expect=3)
    assert (done.out, "away" in done.err) == ("", True)


def test_what_the_file_leaves_out_is_left_alone(run: Run, controller: str) -> None:
    run("models", "register", FIRST, "--weight", "3", "--no-check-healthy")
    run("models", "drain", FIRST, "--force")
    assert run("apply", "-f", file(one())).out == f"{FIRST} unchanged\n"


def test_check_healthy_cannot_be_changed_but_the_rest_is(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    done = run("apply", "-f", file(one(check_healthy=False, enabled=False)), "-q", expect=5)
    assert done.out == f"{FIRST} changed: enabled true -> false\n"
    assert done.err == (
        f"ctl: {FIRST}: check_healthy true -> false: "
        "check_healthy of a registered instance cannot be changed: remove it and apply again\n"
    )


def test_a_deregistered_one_is_not_revived(run: Run, controller: str) -> None:
    run("models", "register", FIRST)
    run("models", "deregister", FIRST)
    done = run("apply", "-f", file(one()), expect=5)
    assert done.out == f"{FIRST} unchanged\n"
    fix = f"ctl models register {FIRST}"
    assert done.err == f"ctl: {FIRST}: state deregistered -> registered: {DEREGISTERED}: {fix}\n"
    told = run("apply", "-f", file(one(weight=2)), "-o", "json", expect=5)
    (each,) = validated("apply", json.loads(told.out))
    assert (each["result"], each["error"], [change["field"] for change in each["changes"]]) == (
        "unchanged",
        "condition_not_met",
        ["state", "weight"],
    )
    assert (stored(run)[4]["weight"], stored(run)[4]["healthy"]) == (1.0, False)
    run(*told.err.strip().rpartition(": ctl ")[2].split())
    assert run("apply", "-f", file(one(weight=2))).out == f"{FIRST} unchanged\n"


def test_a_drain_with_reason_and_end_is_applied_once(run: Run, controller: str) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    drain = {"reason": "new drivers", "until": until.isoformat()}
    name = file(one(drain=drain), one(host="10.0.0.5", drain={"reason": "disk"}))
    run("models", "register", FIRST)
    done = run("apply", "-f", name)
    assert done.lines == [
        f"{FIRST} changed: enabled true -> false, drain_reason none -> 'new drivers', drain_until none -> "
        + utc_text(until),
        f"{SECOND} created: enabled false, drain_reason 'disk'",
    ]
    assert run("apply", "-f", name).lines == [f"{FIRST} unchanged", f"{SECOND} unchanged"]
    with ControllerClient(controller) as client:
        found = client.get(KEY).drain
        assert found is not None
        assert found.reason == "new drivers"
        assert found.until is not None
        assert abs(found.until - until) < timedelta(minutes=1)
    (told,) = validated("apply", json.loads(run("apply", "-f", file(one(drain={"until": None})), "-o", "json").out))
    assert [(each["field"], each["new"]) for each in told["changes"]] == [("drain_until", None)]
    with ControllerClient(controller) as client:
        assert client.get(KEY).drain == found._replace(until=None)
    assert run("apply", "-f", file(one(drain=None))).out == f"{FIRST} changed: enabled false -> true\n"


def test_a_dry_run_tells_the_same_and_changes_nothing(run: Run, controller: str) -> None:
    run("models", "register", FIRST, "qwen/10.0.0.6:8001")
    before = stored(run)
    done = run("apply", "--dry-run", "--prune", "-f", file(one(weight=2), one(host="10.0.0.5")))
    assert done.lines == [
        f"{FIRST} would be changed: weight 1 -> 2",
        f"{SECOND} would be created",
        "qwen@llm/10.0.0.6:8001 would be pruned",
    ]
    assert stored(run) == before


def test_prune_removes_what_is_not_declared_of_the_files_models(run: Run, controller: str) -> None:
    run("models", "register", FIRST, SECOND, "bge@text2vec/10.0.0.7:1")
    done = run("apply", "--prune", "--yes", "-f", file(one()))
    assert done.lines == [f"{FIRST} unchanged", f"{SECOND} pruned"]
    assert f"warning: {SECOND}: not in the file and alive" in done.err
    assert set(stored(run)) == {4, 7}


@pytest.mark.parametrize("verb", ["apply --yes", "diff"])
def test_an_empty_file_does_not_wipe_a_cluster(run: Run, fake: FakeController, verb: str) -> None:
    assert "no instances are declared" in run(*verb.split(), "--prune", "-f", file(), expect=2).err
    assert fake.requests == []


def test_an_empty_file_without_prune_is_fine(run: Run, controller: str) -> None:
    assert run("apply", "-f", file()).out == ""
    assert run("apply", "-f", file(), "-o", "json").out == "[]\n"


def test_nothing_is_pruned_after_a_failure(run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {**listed("qwen@llm", "10.0.0.5"), "state": "healthy"}
    whole = {"version": 1, "time": "2026-01-02T12:00:00+00:00", "instances": [there]}
    answers = iter([(200, json.dumps(whole).encode()), (429, b'{"detail": "full"}')])
    monkeypatch.setattr(fake, "answer", lambda _path: next(answers))
    done = run("apply", "--prune", "-y", "-f", file(one()), "-q", "-o", "json", expect=6)
    assert [each["result"] for each in validated("apply", json.loads(done.out))] == ["failed", "not tried"]
    assert [each.split("?")[0] for each in writes(fake)] == ["POST /api/controller/models"]


def test_when_the_controller_goes_down_midway_the_rest_is_not_tried(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"version": 1, "time": "2026-01-02T12:00:00+00:00", "instances": []}
    answers = iter([(200, json.dumps(whole).encode()), (200, b"true"), (503, b'{"detail": "away"}')])
    monkeypatch.setattr(fake, "answer", lambda _path: next(answers))
    done = run("apply", "-q", "-f", file(one(), one(port=2), one(port=3), one(port=4)), expect=3)
    assert done.out == f"{FIRST} created\n"
    assert "ctl: 2 not tried: qwen@llm/10.0.0.4:3 and those after it\n" in done.err


def test_nothing_is_done_on_stale_knowledge(run: Run, fake: FakeController) -> None:
    since = "2026-01-02T11:59:00.000000+00:00"
    fake.body = {"version": 1, "time": "2026-01-02T12:00:00+00:00", "stale_since": since, "instances": []}
    away = f"{fake.url}: its registry is away; this is what was known 60s ago"
    allow = "--allow-stale relies on that list"
    for args in ((), ("--dry-run",), ("--dry-run", "-q")):
        done = run("apply", "-f", file(one()), *args, expect=3)
        assert (done.out, done.err) == ("", f"ctl: {away}; nothing was changed; {allow}\n")
    done = run("diff", "-f", file(one()), expect=3)
    assert done.out == f"+ {FIRST}\n"
    assert f"ctl: {away}; whether the registry matches now is not known; {allow}\n" in done.err
    assert writes(fake) == []


def test_a_stale_list_will_do_where_that_is_allowed(run: Run, fake: FakeController) -> None:
    since = "2026-01-02T11:59:00.000000+00:00"
    fake.body = {"version": 1, "time": "2026-01-02T12:00:00+00:00", "stale_since": since, "instances": []}
    for verb, code in (("apply --dry-run", 0), ("diff", 5)):
        err = run(*verb.split(), "-f", file(one()), "--allow-stale", expect=code).err
        assert err.count("[registry-stale]") == 1
        assert run(*verb.split(), "-f", file(one()), "--allow-stale", "-q", expect=code).err == ""
    told = validated("diff", json.loads(run("diff", "-f", file(one()), "-o", "json", "-q", expect=3).out))
    assert (told["stale_since"], told["held_until"], len(told["differences"])) == (since, None, 1)


def test_mistakes_are_a_line_each_and_nothing_is_sent(run: Run, fake: FakeController) -> None:
    done = run("apply", "-f", file(one(port=0), one(hots="h")), expect=2)
    assert done.err == (
        "ctl: f.json: instances[0].port: port 0 is not a whole number from 1 to 65535\n"
        "ctl: f.json: instances[1]: unknown key 'hots'; did you mean host?\n"
        "ctl: 2 mistakes in f.json; nothing was changed\n"
    )
    assert (done.out, fake.requests) == ("", [])


def test_a_thousand_mistakes_fit_on_a_screen(run: Run, fake: FakeController) -> None:
    done = run("diff", "-f", file(*[one(port=0)] * 1000), expect=2)
    assert len(done.err.splitlines()) == 22
    assert "ctl: and 980 more\n" in done.err


def test_prune_needs_a_yes_where_nobody_can_be_asked(run: Run, controller: str) -> None:
    run("models", "register", FIRST, SECOND)
    before, name = stored(run), file(one(weight=2))
    done = run("apply", "--prune", "-f", name, expect=2)
    assert (done.out, "--yes" in done.err) == ("", True)
    assert stored(run) == before
    assert run("apply", "--prune", "--dry-run", "-q", "-f", name).lines[-1] == f"{SECOND} would be pruned"
    assert run("apply", "--prune", "--yes", "-q", "-f", name).lines[-1] == f"{SECOND} pruned"


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("y", 0)])
def test_prune_asks_on_a_terminal_before_any_change(run: Run, controller: str, answer: str, code: int) -> None:
    run("models", "register", FIRST, SECOND)
    before, name = stored(run), file(one(weight=2))
    child = pexpect.spawn(
        CTL[0],
        [*CTL[1:], "apply", "--prune", "-q", "-f", name],
        env=environment({"CONTROLLER_ADDRESS": controller}),
        dimensions=(24, 120),
        encoding="utf-8",
        timeout=60,
    )
    child.expect_exact(f"ctl: prune 1 instance: {SECOND}? [y/N] ")
    assert stored(run) == before, "nothing is changed before the answer"
    child.sendline(answer)
    shown = child.read()
    child.close()
    assert child.exitstatus == code, shown
    assert (stored(run) == before) == (code != 0)
    assert ("nothing was changed" in shown) == (code != 0)
    if code == 0:  # nothing is left to prune, and so nothing to ask
        child = pexpect.spawn(
            CTL[0],
            [*CTL[1:], "apply", "--prune", "-f", name],
            env=environment({"CONTROLLER_ADDRESS": controller}),
            encoding="utf-8",
            timeout=60,
        )
        assert "[y/N]" not in child.read()
        child.close()
        assert child.exitstatus == 0


@pytest.mark.parametrize("args", [(), ("-f", "missing.yaml"), ("-f", "."), ("-f", ""), ("-f", "a\0b")])
def test_a_file_that_cannot_be_read(run: Run, fake: FakeController, args: tuple[str, ...]) -> None:
    assert run("apply", *args, expect=2).err.count("\n") == 1
    assert fake.requests == []


def test_several_files_add_up(run: Run, controller: str) -> None:
    run("models", "register", "qwen/10.0.0.6:8001")
    first = file(one())
    Path("g.yaml").write_text("instances:\n- {model: qwen, host: 10.0.0.5, port: 8001}\n")
    done = run("apply", "-q", "--prune", "--yes", "-f", first, "-f", "g.yaml")
    assert done.lines == [f"{FIRST} created", f"{SECOND} created", "qwen@llm/10.0.0.6:8001 pruned"]
    assert run("diff", "-q", "--prune", "-f", "g.yaml", "-f", first).out == ""


def test_a_folder_stands_for_its_files(run: Run, controller: str) -> None:
    Path("cluster/later").mkdir(parents=True)
    Path("cluster/b.yml").write_text("instances: [{model: qwen, host: 10.0.0.5, port: 8001}]")
    Path("cluster/a.json").write_text(json.dumps({"instances": [one()]}))
    Path("cluster/later/c.yaml").write_text("instances: [{model: qwen, host: 10.0.0.6, port: 8001}]")
    assert run("diff", "-f", "cluster", "-q", expect=5).lines == [f"+ {FIRST}", f"+ {SECOND}"]
    more = file(one(host="10.0.0.7"))
    done = run("apply", "-q", "-f", "cluster/", "-f", more)
    assert done.lines == [f"{FIRST} created", f"{SECOND} created", "qwen@llm/10.0.0.7:8001 created"]


def test_an_instance_of_two_files_of_a_folder_is_a_mistake(run: Run, fake: FakeController) -> None:
    Path("cluster").mkdir()
    for name in ("a.json", "b.json"):
        Path("cluster", name).write_text(json.dumps({"instances": [one()]}))
    for verb in ("apply", "diff"):
        assert run(verb, "-f", "cluster", expect=2).err == (
            f"ctl: cluster/b.json: instances[0]: {FIRST} is declared already, at cluster/a.json: instances[0]\n"
            "ctl: 1 mistake in 2 files; nothing was changed\n"
        )
    assert fake.requests == []


def test_an_instance_of_two_files_is_a_mistake(run: Run, fake: FakeController) -> None:
    first = file(one())
    Path("g.yaml").write_text("instances:\n- {model: qwen, host: 10.0.0.4, port: 8001}\n")
    done = run("apply", "-f", first, "-f", "g.yaml", expect=2)
    assert done.err == (
        f"ctl: g.yaml:2: instances[0]: {FIRST} is declared already, at f.json: instances[0]\n"
        "ctl: 1 mistake in 2 files; nothing was changed\n"
    )
    assert "only once" in run("diff", "-f", "-", "-f", "-", expect=2).err
    assert fake.requests == []


def test_standard_input(run: Run, controller: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(json.dumps({"instances": [one()]}).encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert run("apply", "-f", "-", "-q").out == f"{FIRST} created\n"


def test_names_that_a_terminal_would_obey_are_escaped(run: Run, fake: FakeController) -> None:
    hostile = {**listed("qwen@llm", "h\x1b[2J"), "state": "healthy"}
    fake.body = {"version": 1, "time": "2026-01-02T12:00:00+00:00", "instances": [hostile]}
    done = run("diff", "--prune", "-f", file(one()), expect=5)
    assert done.lines == [f"+ {FIRST}", r"- qwen@llm/h\x1b[2J:8001"]


def test_apply_in_json_keeps_to_its_schema(run: Run, controller: str) -> None:
    run("models", "register", FIRST, "qwen/10.0.0.6:8001")
    name = file(one(weight=2, check_healthy=False), one(host="10.0.0.5"))
    done = run("apply", "--prune", "--yes", "-f", name, "-o", "json", expect=5)
    changed, created, pruned = validated("apply", json.loads(done.out))
    assert [changed["result"], created["result"]] == ["changed", "created"]
    assert changed["error"] == "condition_not_met"
    assert pruned["result"] == "not tried", "nothing is pruned once something failed"


def test_dbgpts_own_controller_takes_creation_and_weight(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.body, lists = [listed("qwen@llm")], fake.answer
    monkeypatch.setattr(fake, "answer", lambda path: (200, b"true") if writes(fake) else lists(path))
    done = run("apply", "-q", "-f", file(one(weight=2, enabled=True), one(host="10.0.0.5")))
    assert done.lines == [f"{FIRST} changed: weight 1 -> 2", f"{SECOND} created"]
    assert writes(fake) == ["POST /api/controller/models"] * 2


@pytest.mark.parametrize("there", [[listed("qwen@llm")], []])
def test_dbgpts_own_controller_cannot_drain(run: Run, fake: FakeController, there: list[dict[str, Any]]) -> None:
    fake.body = there
    done = run("apply", "-q", "-f", file(one(enabled=False)), "-o", "json", expect=6)
    assert "cannot drain" in done.err
    assert validated("apply", json.loads(done.out))[0]["error"] == "not_supported"
    assert writes(fake) == []
