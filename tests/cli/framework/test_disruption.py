"""Changes that would take too many instances of a model are refused."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.cli.framework.disruption import refuse_disruption, refused_references
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.errors import WouldDisrupt
from tests.cli.schemas import validated
from tests.support.fake_controller import listed

if TYPE_CHECKING:
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
