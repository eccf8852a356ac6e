"""What apply decides to do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.cli.manifest.declarations import Declaration
from dbgpt_ctl.cli.manifest.plan import Action, Difference, Step, make_plan
from dbgpt_ctl.client.responses import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState

KEY = InstanceKey("qwen@llm", "h", 1)


def there(key: InstanceKey = KEY, **facts: Any) -> KnownInstance:
    return KnownInstance(*key, **facts)


def step(stated: dict[str, Any], *registered: KnownInstance) -> Step:
    (found,) = make_plan([Declaration(KEY, stated)], registered, prune=False)
    return found


def test_what_is_absent_is_created_with_the_defaults_of_a_register() -> None:
    found = step({"weight": 2.0})
    assert (found.action, found.registers, found.enables) == (Action.CREATE, True, None)
    assert found.facts == {"weight": 2.0, "enabled": True, "prompt_template": None, "check_healthy": True}


def test_what_is_created_drained_is_registered_so_and_drained() -> None:
    found = step({"enabled": False})
    assert (found.facts["enabled"], found.enables) == (False, False)


def test_only_given_fields_are_compared() -> None:
    assert not step({}, there(weight=3.0, enabled=False, prompt_template="x", check_healthy=False)).differs


def test_a_register_sends_what_is_there_for_what_is_left_out() -> None:
    found = step({"weight": 2.0}, there(prompt_template="chat"))
    assert found.differences == (Difference("weight", 1.0, 2.0),)
    assert (found.facts["weight"], found.facts["prompt_template"]) == (2.0, "chat")
    assert found.registers


def test_no_template_may_be_null_or_empty() -> None:
    assert not step({"prompt_template": None}, there(prompt_template="")).differs


def test_a_weight_of_seven_digits_is_the_same() -> None:
    assert not step({"weight": 0.1}, there(weight=0.10000000149)).differs
    assert step({"weight": 0.1}, there(weight=0.1001)).differs


@pytest.mark.parametrize("enabled", [True, False])
def test_enabled_is_a_drain_or_its_end_and_no_register(enabled: bool) -> None:
    found = step({"enabled": enabled}, there(enabled=not enabled))
    assert (found.enables, found.registers) == (enabled, False)


def test_check_healthy_cannot_be_changed() -> None:
    found = step({"check_healthy": False, "enabled": False}, there())
    assert (found.action, found.enables, found.registers) == (Action.CHANGE, False, False)
    assert found.blocked == (Difference("check_healthy", True, False),)
    assert "cannot be changed" in str(found.blocked_reason)


@pytest.mark.parametrize("state", [InstanceState.UNHEALTHY, InstanceState.DEREGISTERED])
def test_what_is_not_alive_is_never_registered(state: InstanceState) -> None:
    found = step({"weight": 2.0, "enabled": False}, there(state=state))
    assert (found.registers, found.enables) == (False, False)
    assert found.blocked == (Difference("weight", 1.0, 2.0),)
    assert f"while it is {state}" in str(found.blocked_reason)
    assert step({"weight": 1.0}, there(state=state)).action is Action.KEEP


def test_prune_is_about_the_models_of_the_file() -> None:
    twin, other = InstanceKey("qwen@llm", "h", 2), InstanceKey("bge@text2vec", "h", 1)
    service = InstanceKey("WorkerManager@service", "h", 1)
    registered = [there(KEY), there(twin, enabled=False, drain=DrainFacts()), there(other), there(service)]
    steps = make_plan([Declaration(KEY)], registered, prune=True)
    assert [(each.key, each.action) for each in steps] == [(KEY, Action.KEEP), (twin, Action.PRUNE)]
    assert [each.key for each in make_plan([Declaration(KEY)], registered, prune=False)] == [KEY]


def test_nothing_declared_prunes_nothing() -> None:
    assert make_plan([], [there()], prune=True) == []


STATED = st.fixed_dictionaries(
    {},
    optional={
        "weight": st.sampled_from([0.0, 1.0, 2.5]),
        "enabled": st.booleans(),
        "prompt_template": st.sampled_from([None, "chat"]),
        "check_healthy": st.booleans(),
    },
)
FACTS = st.fixed_dictionaries(
    {
        "weight": st.sampled_from([0.0, 1.0, 2.5]),
        "enabled": st.booleans(),
        "prompt_template": st.sampled_from([None, "", "chat"]),
        "check_healthy": st.booleans(),
        "state": st.sampled_from(InstanceState),
    }
)


@given(STATED, st.none() | FACTS)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(stated: dict[str, Any], facts: dict[str, Any] | None) -> None:
    """As a registry does it: a register takes weight and template, of what is new all."""
    first = step(stated, *([] if facts is None else [there(**facts)]))
    now = dict(first.facts if facts is None else facts)
    if first.registers:
        now |= {name: first.facts[name] for name in ("weight", "prompt_template")}
        assert first.is_beating or facts is None
    if first.enables is not None:
        now["enabled"] = first.enables
    second = step(stated, there(**now))
    assert second.action is Action.KEEP
    assert second.blocked == first.blocked
