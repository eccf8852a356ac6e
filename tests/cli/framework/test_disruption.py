"""Changes that would take too many instances of a model are refused."""

from __future__ import annotations

import io
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.cli.framework.disruption import refuse_disruption, refused_references
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.errors import WouldDisrupt
from tests.cli.schemas import validated
from tests.support.fake_controller import listed
from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController


REFS = [f"qwen@llm/10.0.0.{number}:8001" for number in range(1, 5)]
OTHER = "bge@text2vec/10.0.0.1:8002"


def routable(run: Run) -> list[str]:
    return run("models", "list", "--healthy-only", "-o", "name", "-q").lines


@pytest.mark.parametrize("dry", [True, False])
def test_a_drain_does_not_empty_a_model(run: Run, controller: str, dry: bool) -> None:
    run("models", "register", *REFS[:2])
    args = ["--dry-run"] if dry else []
    done = run("models", "drain", *REFS[:2], *args, expect=2)
    assert done.out == ""
    assert done.err == (
        "ctl: qwen@llm would have no routable instance, because 2 of 2 would be drained: nothing was drained; "
        "--force does it all the same\n"
    )
    assert routable(run) == REFS[:2]
    assert len(run("models", "drain", *REFS[:2], "--force", *args).lines) == 2


def test_what_gets_no_requests_anyway_may_be_drained(run: Run, controller: str) -> None:
    run("models", "register", *REFS[:3])
    run("models", "deregister", REFS[0])
    run("models", "drain", REFS[1])
    run("models", "drain", REFS[0], REFS[1])
    run("models", "drain", REFS[2], expect=2)
    run("models", "deregister", REFS[2])
    run("models", "drain", *REFS[:3])


@pytest.mark.parametrize(("count", "code"), [(1, 0), (2, 0), (3, 2), (4, 2)])
def test_a_selector_takes_at_most_half(run: Run, controller: str, count: int, code: int) -> None:
    """References that are typed, or come from standard input, may take all but one."""
    run("models", "register", *(f"qwen/{'a' if number < count else 'b'}:{number + 1}" for number in range(4)))
    done = run("models", "drain", "--host", "a", "--yes", expect=code)
    if count == 3:
        assert done.err == (
            "ctl: qwen@llm would lose more than half of its routable instances, because 3 of 4 would be drained: "
            "nothing was drained; --force does it all the same\n"
        )
    if code:
        assert len(routable(run)) == 4
    if count < 4:
        run("models", "drain", *(f"qwen/a:{number + 1}" for number in range(count)))


def test_deregister_by_a_selector_is_guarded_too(run: Run, controller: str) -> None:
    run("models", "register", *REFS[:2])
    done = run("models", "deregister", "--all", "--remove", "--yes", expect=2)
    assert "because 2 of 2 would be removed: nothing was removed; --force does it" in done.err
    run("models", "deregister", "--host", "10.0.0.1", "--yes")
    run("models", "deregister", REFS[1])


def test_one_model_that_would_lose_too_many_stops_a_selector(run: Run, controller: str) -> None:
    run("models", "register", *REFS, OTHER)
    run("models", "drain", "--host", "10.0.0.1", "--yes", expect=2)
    assert sorted(routable(run)) == sorted([*REFS, OTHER])


@pytest.mark.parametrize("by_stdin", [False, True])
@pytest.mark.parametrize("dry", [True, False])
def test_references_of_other_models_are_drained(
    run: Run, controller: str, monkeypatch: pytest.MonkeyPatch, by_stdin: bool, dry: bool
) -> None:
    """One model that is dead as a whole does not keep all other dead instances in service."""
    run("models", "register", *REFS, OTHER)
    args = [OTHER, *REFS[:2]]
    if by_stdin:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(args).encode())))
        args = ["-"]
    done = run("models", "drain", *args, *(["--dry-run"] if dry else []), "-q", expect=5)
    assert done.lines == [f"{ref} {'would be ' if dry else ''}drained" for ref in REFS[:2]]
    assert done.err == (
        f"ctl: {OTHER}: not drained: bge@text2vec would have no routable instance, because 1 of 1 would be drained; "
        "--force does it all the same\n"
    )
    assert sorted(routable(run)) == sorted([*REFS, OTHER] if dry else [OTHER, *REFS[2:]])


def test_a_refused_reference_is_an_object_like_others(run: Run, controller: str) -> None:
    run("models", "register", *REFS[:2], OTHER)
    done = run("models", "drain", OTHER, REFS[0], "-o", "json", "-q", expect=5)
    refused, drained = validated("models-drain", json.loads(done.out))
    assert (refused["result"], refused["error"]) == ("failed", "condition_not_met")
    assert drained["result"] == "drained"
    assert run("models", "drain", OTHER, REFS[1], "--force").lines[-1] == f"{REFS[1]} drained"


def test_a_drained_instance_of_a_refused_model_is_drained_again(run: Run, controller: str) -> None:
    """It is taken from nobody. So a recipe that runs every minute keeps it out of service."""
    run("models", "register", *REFS[:2])
    run("models", "drain", REFS[0], "--for", "1m")
    done = run("models", "drain", *REFS[:2], "--for", "15m", expect=5)
    assert [line.split(" until")[0] for line in done.lines] == [f"{REFS[0]} drained"]


def test_many_models_are_a_few_lines(run: Run, controller: str) -> None:
    run("models", "register", *(f"model-{number}/h:1" for number in range(8)))
    done = run("models", "drain", "--all", "--yes", "-q", expect=2)
    assert done.err.splitlines() == [
        *(f"ctl: model-{n}@llm would have no routable instance, because 1 of 1 would be drained" for n in range(5)),
        "ctl: and 3 more models",
        "ctl: too many instances of 8 models at once: nothing was drained; --force does it all the same",
    ]


def test_services_are_routed_by_nobody(run: Run, controller: str) -> None:
    run("models", "register", "WorkerManager@service/h:1")
    run("models", "drain", "--type", "service", "--yes")


def test_a_name_of_a_stranger_is_escaped(run: Run, fake: FakeController) -> None:
    facts = {"state": "healthy", "held": False, "drain": None, "flaps": 0}
    objects = [{**listed("a\x1b[2J@llm"), **facts}]
    fake.body = {"version": 1, "instances": objects, "stale_since": None, "held_until": None}
    assert "a\\x1b[2J@llm would have no" in run("models", "drain", "--all", "--yes", expect=2).err


INSTANCES = st.lists(
    st.builds(
        KnownInstance,
        st.sampled_from(["a@llm", "b@llm", "c@service"]),
        st.sampled_from("xyz"),
        st.integers(1, 3),
        state=st.sampled_from(InstanceState),
        drain=st.sampled_from([None, DrainFacts()]),
    ),
    unique_by=lambda instance: instance.key,
)


@given(INSTANCES, st.data(), st.booleans())
def test_what_is_refused(instances: list[KnownInstance], data: st.DataObject, by_selector: bool) -> None:
    """By the definition: of a model that had a routable instance, none is left, or a selector takes more than half."""
    chosen = data.draw(st.lists(st.sampled_from(instances), unique_by=lambda each: each.key)) if instances else []
    keys = [instance.key for instance in chosen]
    refused = False
    emptied: set[InstanceKey] = set()
    for name in ("a@llm", "b@llm"):
        before = [
            each
            for each in instances
            if each.model_name == name and each.state is InstanceState.HEALTHY and each.drain is None
        ]
        after = [each for each in before if each.key not in keys]
        refused |= bool(before) and not after
        emptied |= set() if after else {each.key for each in before}
        refused |= by_selector and len(before) - len(after) > len(before) / 2
    if refused:
        with pytest.raises(WouldDisrupt):
            refuse_disruption(keys, instances, "drained", by_selector=by_selector)
    else:
        refuse_disruption(keys, instances, "drained", by_selector=by_selector)
    if emptied and emptied == set(keys):
        with pytest.raises(WouldDisrupt):
            refused_references(keys, instances, "drained")
    else:
        assert set(refused_references(keys, instances, "drained")) == emptied


HOSTS = [f"qwen@llm/10.0.0.{number}:8001" for number in range(1, 6)]
DRAIN = ("drain", "--model", "q*", "--force")
FIRST = f"{', '.join(HOSTS[:3])}, and 2 more"
QUESTIONS = {
    DRAIN: f"ctl: drain 5 instances: {FIRST}? [y/N] ",
    ("undrain", "--host", "10.0.0.1"): f"ctl: undrain 1 instance: {HOSTS[0]}? [y/N] ",
    ("deregister", "--state", "healthy", "--force"): f"ctl: deregister 5 instances: {FIRST}? [y/N] ",
    ("deregister", "--model", "qwen", "--force", "--remove"): f"ctl: deregister and remove 5 instances: {FIRST}? ",
    ("prune", "--older-than", "0.001ms"): "ctl: remove 1 instance: gone@llm/h:1? [y/N] ",
}
NOTHING = "ctl: not confirmed: nothing was changed"


@pytest.fixture
def filled(run: Run, controller: str) -> str:
    run("models", "register", *HOSTS, "gone/h:1", "-q")
    run("models", "deregister", "gone/h:1", "-q")
    return controller


def state(url: str) -> list[tuple[str, str, bool]]:
    with ControllerClient(url) as client:
        return [(each.host, each.state, each.drain is not None) for each in client.instances().instances]


@pytest.fixture
def spawn(filled: str) -> Iterator[Any]:
    """Runs `ctl models ...` on a terminal of its own."""
    children: list[Any] = []

    def start(*args: str) -> Any:
        env = environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled})
        child = pexpect.spawn(
            CTL[0], [*CTL[1:], "models", *args], env=env, dimensions=(24, 200), encoding="utf-8", timeout=20
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def ended(child: Any) -> int | None:
    """The exit code; of a child that a signal ended, the number of the signal below zero."""
    child.expect(pexpect.EOF)
    child.close()
    code: int | None = -child.signalstatus if child.signalstatus else child.exitstatus
    return code


@pytest.mark.parametrize(("args", "answer"), list(zip(QUESTIONS, ["y", "Y", "YES", " yes ", "yes"], strict=True)))
def test_yes_changes(spawn: Any, filled: str, args: tuple[str, ...], answer: str) -> None:
    before = state(filled)
    child = spawn(*args)
    child.expect_exact(QUESTIONS[args])
    assert state(filled) == before
    child.sendline(answer)
    assert ended(child) == 0
    assert (state(filled) != before) == (args[0] != "undrain")


@pytest.mark.parametrize(
    ("args", "answer"), [*zip(QUESTIONS, ["", "n", "yy", "ye", "ja"], strict=True), (DRAIN, "x" * 999)]
)
def test_anything_else_changes_nothing(spawn: Any, filled: str, args: tuple[str, ...], answer: str) -> None:
    before = state(filled)
    child = spawn(*args)
    child.expect_exact(QUESTIONS[args])
    child.sendline(answer)
    child.expect_exact(NOTHING)
    assert ended(child) == 1
    assert state(filled) == before


@pytest.mark.parametrize(("key", "shown", "code"), [("sendeof", f"\r\n{NOTHING}", 1), ("sendintr", "", -2)])
def test_the_end_of_the_input_and_ctrl_c_change_nothing(
    spawn: Any, filled: str, key: str, shown: str, code: int
) -> None:
    before = state(filled)
    child = spawn(*DRAIN)
    child.expect_exact(QUESTIONS[DRAIN])
    getattr(child, key)()
    if shown:
        child.expect_exact(shown)
    assert ended(child) == code
    assert state(filled) == before


def test_quiet_asks_too(spawn: Any) -> None:
    child = spawn(*DRAIN, "-q")
    child.expect_exact(QUESTIONS[DRAIN])


@pytest.mark.parametrize(
    "args",
    [
        ("drain", *HOSTS, "--force"),
        ("drain", "--all", "--force", "--yes"),
        ("drain", "--all", "--force", "--dry-run"),
        ("prune", "--older-than", ".001ms", "--dry-run"),
        ("prune", "--older-than", "7d"),
        ("prune", "--older-than", ".001ms", "-y"),
        ("heartbeat", "--all"),
        ("get", "--all"),
    ],
)
def test_what_does_not_ask(spawn: Any, args: tuple[str, ...]) -> None:
    child = spawn(*args)
    assert ended(child) in (0, 6)  # a heartbeat of the deregistered one is refused
    assert "[y/N]" not in child.before


def test_a_refusal_comes_before_the_question(spawn: Any) -> None:
    child = spawn("drain", "--model", "q*")
    assert ended(child) == 2
    assert "[y/N]" not in child.before
    assert "--force" in child.before


@pytest.mark.parametrize(
    "args", [("drain", "--all"), ("deregister", "--all"), ("undrain", "--host", "h"), ("prune", "--older-than", "7d")]
)
def test_without_a_terminal_yes_is_required_before_anything_is_sent(
    run: Run, fake: FakeController, args: tuple[str, ...]
) -> None:
    done = run("models", *args, expect=2)
    assert done.err.count("\n") == 1
    assert "there is no terminal to ask on before these changes: give --yes to " in done.err
    assert fake.requests == []


@pytest.mark.parametrize("redirected", ["</dev/null", "2>/dev/null", "2>&1 | cat"])
def test_both_ends_have_to_be_terminals(filled: str, redirected: str) -> None:
    before = state(filled)
    line = f"{' '.join(CTL)} models drain --all --force {redirected}; echo over"
    env = environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled})
    child: Any = pexpect.spawn("sh", ["-c", line], env=env, encoding="utf-8", timeout=20)
    child.expect_exact("over")
    assert "[y/N]" not in child.before
    assert state(filled) == before
    child.close()


def test_output_in_a_pipe_still_asks(filled: str) -> None:
    line = f"{' '.join(CTL)} models drain --all --force -o name | sort"
    env = environment({"TERM": "xterm", "CONTROLLER_ADDRESS": filled})
    child: Any = pexpect.spawn("sh", ["-c", line], env=env, encoding="utf-8", timeout=20)
    child.expect_exact("[y/N] ")
    child.sendline("y")
    child.expect_exact(HOSTS[-1])
    child.close()


def test_closed_streams_are_no_terminal(filled: str) -> None:
    line = f"{' '.join(CTL)} models drain --all --force <&- 2>&-"
    env = environment({"CONTROLLER_ADDRESS": filled})
    assert subprocess.run(["sh", "-c", line], env=env, capture_output=True, check=False).returncode == 2
