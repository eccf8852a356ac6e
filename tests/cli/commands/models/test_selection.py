"""References, standard input and selectors, with the commands that take them."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

from dbgpt_ctl.cli.commands.models import selection
from tests.cli.completion.test_protocol import offered
from tests.support.fake_controller import listed
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

A4, A5, A6 = (f"qwen@llm/10.0.0.{host}:8001" for host in (4, 5, 6))
B4, B5 = (f"qwen-vl@llm/10.0.0.{host}:8002" for host in (4, 5))
EMBEDDING, UPPER = "qwen@text2vec/10.0.0.4:8003", "Qwen@llm/10.0.0.4:8004"
SERVICE = "WorkerManager@service/10.0.0.4:8005"
EVERYTHING = (A4, A5, A6, B4, B5, EMBEDDING, UPPER, SERVICE)
MODELS = "Qwen@llm, WorkerManager@service, qwen-vl@llm, qwen@llm, qwen@text2vec"
VERBS = ("get", "heartbeat", "deregister", "drain", "undrain", "ping")
"""All verbs that take selectors."""


@pytest.fixture
def filled(run: Run, controller: str) -> str:
    """A controller with EVERYTHING, of which A6 is deregistered and B5 drained; its URL."""
    run("models", "register", *EVERYTHING)
    run("models", "deregister", A6)
    run("models", "drain", B5)
    return controller


def stdin(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("args", "selected"),
    [
        (["--all"], [A4, A5, A6, B4, B5, EMBEDDING, UPPER]),
        (["--model", "qwen"], [A4, A5, A6, EMBEDDING]),
        (["--model", "qwen*"], [A4, A5, A6, B4, B5, EMBEDDING]),
        (["--model", "qwen*@llm"], [A4, A5, A6, B4, B5]),
        (["--model", "?wen@llm", "--host", "10.0.0.4"], [A4, UPPER]),
        (["--model", "*", "--type", "text2vec"], [EMBEDDING]),
        (["--host", "10.0.0.5"], [A5, B5]),
        (["--type", "text2vec"], [EMBEDDING]),
        (["--type", "service"], [SERVICE]),
        (["--state", "deregistered"], [A6]),
        (["--state", "deregistered,drained"], [A6, B5]),
        (["--state", "deregistered", "--state", "drained"], [A6, B5]),
        (["--all", "--host", "10.0.0.5", "--state", "healthy", "--model", "*-vl"], [B5]),
    ],
)
def test_what_a_selector_selects(run: Run, filled: str, args: list[str], selected: list[str]) -> None:
    """All conditions together, with the case of the names; type service only where it is named."""
    done = run("models", "get", *args, "-o", "name")
    assert sorted(done.lines) == sorted(selected)
    assert done.err in ("", f"ctl: skipped: {SERVICE}: a selector takes type service only with --type service\n")
    assert bool(done.err) == (args in (["--all"], ["--host", "10.0.0.4"]))


@pytest.mark.parametrize(("verb", "code"), [("heartbeat", 0), ("deregister", 0), ("drain", 0), ("undrain", 0)])
def test_every_verb_selects_in_the_same_way(run: Run, filled: str, verb: str, code: int) -> None:
    sure = [] if verb == "heartbeat" else ["--yes"]
    force = ["--force"] if verb in ("drain", "deregister") else []
    done = run("models", verb, "--model", "qwen*", "--host", "10.0.0.5", *sure, *force, "-o", "name", expect=code)
    assert done.lines == [B5, A5]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give references NAME[@TYPE]/HOST:PORT, - to read them from standard input, or a selector: --model"),
        ([A4, "--model", "x"], "--model selects instances and 'qwen@llm/10.0.0.4:8001' names some: give one of them"),
        ([A4, "--all"], "--all selects instances and"),
        ([A4, "--state", "healthy"], "--state selects instances and"),
        ([A4, "--host", "10.0.0.4"], "without --port"),
        (["-", "--host", "10.0.0.4"], "- reads references, which have a host and a port: leave out --host and --port"),
        (["-", "--all"], "--all selects instances and '-' names some"),
        (["-", "-"], "- is given more than once"),
        (["--port", "8001"], "--port '8001' goes with NAME and --host"),
        (["--host", "10.0.0.4", "--port", "8001"], "--port '8001' goes with NAME and --host"),
        (["--model", ""], "--model '' is no pattern"),
        (["--model", "a@b@c"], "--model 'a@b@c' is no pattern"),
        (["--state", "sick"], "--state 'sick' is not one of"),
        (["--type", "a@b"], "--type 'a@b' is not a type"),
        (["--host", "http://h"], "host"),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_sent(
    run: Run, fake: FakeController, verb: str, args: list[str], message: str
) -> None:
    done = run("models", verb, *args, expect=2)
    assert message in done.err
    assert (done.err.count("\n"), fake.requests) == (1, [])


def test_register_takes_references_only(run: Run, fake: FakeController) -> None:
    assert "No such option: --all" in run("models", "register", "--all", expect=2).err
    assert "Missing argument" in run("models", "register", expect=2).err
    assert "is no IPv6 address" in run("models", "register", "qwen/a\\x3ab:1", expect=2).err
    assert fake.requests == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "qwen-vm*"], "no instances of qwen-vm* registered at {url}; did you mean qwen-vl@llm?"),
        (["--model", "*@x"], "no instances of *@x registered at {url}; registered models are " + MODELS),
        (["--host", "10.0.0.44"], "no instances on host 10.0.0.44 registered at {url}; did you mean 10.0.0.4?"),
        (
            ["--type", "rank"],
            "no instances of type rank registered at {url}; registered types are llm, service, text2vec",
        ),
        (["--model", "qwen*", "--state", "unhealthy"], "none of the 6 instances of qwen* at {url} is unhealthy"),
        (["--model", "Worker*"], "only instances of type service match: --type service selects them"),
    ],
)
@pytest.mark.parametrize("verb", ["drain", "get"])
def test_a_selector_that_matches_nothing_says_what_is_registered(
    run: Run, filled: str, verb: str, args: list[str], message: str
) -> None:
    done = run("models", verb, *args, *(["--yes"] if verb == "drain" else []), expect=4)
    assert (done.out, done.err) == ("", f"ctl: {message.format(url=filled)}\n")


def test_nothing_is_registered(run: Run, controller: str) -> None:
    assert run("models", "get", "--all", expect=4).err == f"ctl: no instances registered at {controller}\n"


def test_long_lists_of_what_is_registered_are_cut(run: Run, controller: str) -> None:
    run("models", "register", *(f"model-{number:02}/h:1" for number in range(20)))
    done = run("models", "get", "--model", "x*", expect=4)
    assert done.err.endswith("model-06@llm, model-07@llm and 12 more\n")


@pytest.mark.parametrize("verb", ["get", "heartbeat", "deregister", "drain", "undrain"])
def test_references_come_from_standard_input(run: Run, filled: str, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    stdin(monkeypatch, f"\n  {B4}\t\r\n{B5}\n\n{B4}\n")
    force = ["--force"] if verb == "drain" else []
    assert run("models", verb, "-", A5, *force, "-o", "name").lines == [A5, B4, B5]


def test_new_instances_come_from_standard_input(run: Run, controller: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, "bge/h:1\nbge@text2vec/h:2")
    assert run("models", "register", "-", "--type", "text2vec").out == (
        "bge@text2vec/h:1 registered\nbge@text2vec/h:2 registered\n"
    )


@pytest.mark.parametrize("text", ["", "\n", " \r\n\n"])
@pytest.mark.parametrize("verb", ["register", "get", "heartbeat", "deregister", "drain", "undrain"])
def test_an_empty_standard_input_is_nothing_to_do(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch, verb: str, text: str
) -> None:
    stdin(monkeypatch, text)
    done = run("models", verb, "-", "-o", "name")
    assert (done.out, done.err) == ("", "ctl: standard input names no instances\n")
    assert fake.requests == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (f"{A4}\nqwen\n".encode(), "standard input, line 2: 'qwen' is not a reference"),
        (f"{A4}\x00{A5}".encode(), "standard input, line 1: "),
        (b"\xff", "standard input is not UTF-8: byte 1 is wrong"),
        (b"x" * (selection.MAX_STDIN_BYTES + 1), "standard input is larger than 16 MiB, the most that is read"),
        (b"NAME  TYPE  HOST\n", "standard input, line 1: 'NAME  TYPE  HOST' is not a reference"),
        (b"--all\n", "standard input, line 1: '--all' is not a reference"),
    ],
)
def test_a_wrong_standard_input_changes_nothing(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch, data: bytes, message: str
) -> None:
    stdin(monkeypatch, data)
    done = run("models", "deregister", "-", expect=2)
    assert message in done.err
    assert (done.err.count("\n"), fake.requests) == (1, [])


def test_a_pipe_of_ctl_into_ctl(filled: str, run: Run) -> None:
    """As it is typed in a shell: list, drain, undrain."""
    ctl, env = " ".join(CTL), environment({"CONTROLLER_ADDRESS": filled})
    line = f"{ctl} models list --host 10.0.0.4 --model 'qwen*' -o name | {ctl} models drain - --for 15m -o name"
    line += f" --force | {ctl} models undrain - -o name"
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [B4, A4, EMBEDDING]


def test_a_terminal_is_told_how_to_end_its_input(filled: str) -> None:
    child: Any = pexpect.spawn(
        CTL[0],
        [*CTL[1:], "models", "undrain", "-"],
        env=environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled}),
        encoding="utf-8",
        timeout=60,
    )
    child.expect_exact("ctl: reading references from standard input, one a line; Ctrl-D ends them")
    child.sendline(B5)
    child.sendeof()
    child.expect_exact(f"{B5} undrained")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def stale(*objects: dict[str, Any]) -> dict[str, Any]:
    """An answer of /api/v1/instances from the last known list."""
    facts = {"state": "healthy", "held": False, "drain": None, "flaps": 0}
    return {
        "version": 1,
        "instances": [{**each, **facts} for each in objects],
        "stale_since": "2026-01-02T11:59:00+00:00",
        "held_until": None,
    }


@pytest.mark.parametrize("verb", ["heartbeat", "deregister", "drain", "undrain"])
@pytest.mark.parametrize("dry", [True, False])
def test_a_change_by_a_selector_does_not_rest_on_a_stale_list(
    run: Run, fake: FakeController, verb: str, dry: bool
) -> None:
    fake.body = stale(listed("qwen@llm"), listed("qwen@llm", host="b"))
    sure = [] if verb == "heartbeat" else ["--yes"]
    done = run("models", verb, "--all", *(["--dry-run"] if dry else sure), expect=3)
    assert done.err.endswith("; nothing was changed, because a selector needs the list of now\n")
    assert "--allow-stale" not in done.err
    assert {request.split()[0] for request in fake.requests} == {"GET"}


def test_dbgpts_duplicates_are_one_instance(run: Run, fake: FakeController) -> None:
    """DB-GPT's own controller may list an instance twice, and can deregister it."""
    fake.body = [listed("qwen@llm", healthy=False), listed("qwen@llm", healthy=False), listed("bge@text2vec")]
    assert run("models", "deregister", "--model", "qwen", "--dry-run", "-o", "name").lines == [A4]


def test_a_list_of_what_needs_v1_is_refused_in_one_line(run: Run, fake: FakeController) -> None:
    fake.body = [listed("qwen@llm")]
    for line in (["drain", "--all", "-y"], ["undrain", "--all", "-y"], ["get", "--all"]):
        done = run("models", *line, expect=6)
        assert "has no /api/v1" in done.err
        assert done.err.count("\n") == 1


def test_five_thousand_instances_cost_one_list(run: Run, fake: FakeController) -> None:
    facts = {"state": "healthy", "held": False, "drain": None, "flaps": 0}
    objects = [{**listed("qwen@llm", host=f"10.0.{number // 250}.{number % 250}"), **facts} for number in range(5000)]
    fake.body = {"version": 1, "instances": objects, "stale_since": None, "held_until": None}
    assert len(run("models", "drain", "--all", "--dry-run", "--force", "-o", "name").lines) == 5000
    assert fake.requests == ["GET /api/v1/instances"]
    assert "2501 of 5000" not in run("models", "drain", "--model", "q*", "--yes", expect=2).err


def test_an_unknown_instance_among_many_costs_one_more_list(run: Run, filled: str) -> None:
    """However many there are, the suggestions come from one list."""
    unknown = [f"qwen@llm/10.9.9.{number}:1" for number in range(30)]
    done = run("models", "drain", *unknown, "--dry-run", "-v", expect=4)
    assert done.err.count("not registered; did you mean") == 30
    assert done.err.count("GET http") == 2


@pytest.mark.parametrize(
    ("begun", "candidates"),
    [("--model=q", "qwen qwen-vl"), ("--state=d", "deregistered drained"), ("--type=r", "reranker")],
)
def test_tab_offers_values_of_selectors(
    run: Run, fake: FakeController, monkeypatch: pytest.MonkeyPatch, begun: str, candidates: str
) -> None:
    fake.body = [listed("qwen@llm"), listed("qwen-vl@llm"), listed("bge@text2vec")]
    for verb in VERBS:
        words = begun.split("=")
        assert offered("models", verb, *words, run=run, monkeypatch=monkeypatch) == candidates.split()
