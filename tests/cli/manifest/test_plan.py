"""What apply decides to do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbgpt_ctl.cli.manifest.declarations import Declaration
from dbgpt_ctl.cli.manifest.plan import Action, Difference, Step, make_plan
from dbgpt_ctl.client.results import KnownInstance
from dbgpt_ctl.domain.instance import DrainFacts, InstanceKey, InstanceState
from dbgpt_ctl.errors import UsageError
from tests.support.clock import START

KEY = InstanceKey("qwen@llm", "h", 1)


def there(key: InstanceKey = KEY, **facts: Any) -> KnownInstance:
    return KnownInstance(*key, **facts)


def step(stated: dict[str, Any], *registered: KnownInstance) -> Step:
    (found,) = make_plan([Declaration(KEY, stated)], registered, prune=False, now=START)
    return found


def test_what_is_absent_is_created_with_the_defaults_of_a_register() -> None:
    found = step({"weight": 2.0})
    assert (found.action, found.registers, found.drain, found.undrains) == (Action.CREATE, True, None, False)
    assert found.facts == {"weight": 2.0, "enabled": True, "prompt_template": None, "check_healthy": True}


def test_what_is_created_drained_is_registered_so_and_drained() -> None:
    found = step({"enabled": False})
    assert (found.facts["enabled"], found.drain) == (False, DrainFacts())


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
    assert (found.undrains, found.drain, found.registers) == (enabled, None if enabled else DrainFacts(), False)


def test_check_healthy_cannot_be_changed() -> None:
    found = step({"check_healthy": False, "enabled": False}, there())
    assert (found.action, found.drain, found.registers) == (Action.CHANGE, DrainFacts(), False)
    assert found.blocked == (Difference("check_healthy", True, False),)
    assert "cannot be changed" in str(found.blocked_reason)


def test_what_is_not_alive_is_never_registered() -> None:
    found = step({"weight": 2.0, "enabled": False}, there(state=InstanceState.UNHEALTHY))
    assert (found.registers, found.drain) == (False, DrainFacts())
    assert found.blocked == (Difference("weight", 1.0, 2.0),)
    assert "while it is unhealthy" in str(found.blocked_reason)
    assert step({"weight": 1.0}, there(state=InstanceState.UNHEALTHY)).action is Action.KEEP


def test_what_is_deregistered_always_differs_and_is_never_registered() -> None:
    gone = there(state=InstanceState.DEREGISTERED, prompt_template="it's")
    state = Difference("state", "deregistered", "registered")
    found = step({}, gone)
    assert (found.differs, found.registers, found.blocked) == (True, False, (state,))
    assert str(found.blocked_reason).endswith(": ctl models register qwen@llm/h:1 --prompt-template 'it'\\''s'")
    found = step({"weight": 2.5, "enabled": False}, gone)
    assert (found.registers, found.drain) == (False, DrainFacts())
    assert found.blocked == (state, Difference("weight", 1.0, 2.5))
    assert "ctl models register qwen@llm/h:1 --weight 2.5 --prompt-template" in str(found.blocked_reason)


LATER = START + timedelta(hours=2)
DRAINED = there(enabled=False, drain=DrainFacts(START, "10.0.0.1", "disk", LATER))


def test_a_drain_differs_only_where_the_file_states_it() -> None:
    assert not step({}, DRAINED).differs
    assert not step({"enabled": False}, DRAINED).differs
    assert not step({"enabled": False, "drain_reason": "disk"}, DRAINED).differs
    assert not step({"enabled": False, "drain_until": LATER - timedelta(seconds=30)}, DRAINED).differs
    assert step({"enabled": True}, DRAINED).undrains


def test_a_drain_is_sent_with_the_end_that_is_to_hold() -> None:
    """A drain without an end is one until an undrain, so the end that the file leaves out is sent again."""
    found = step({"enabled": False, "drain_reason": "memory"}, DRAINED)
    assert found.differences == (Difference("drain_reason", "disk", "memory"),)
    assert found.drain == DrainFacts(reason="memory", until=LATER)
    found = step({"enabled": False, "drain_until": None}, DRAINED)
    assert found.differences == (Difference("drain_until", LATER, None),)
    assert found.drain == DrainFacts()
    found = step({"enabled": False, "drain_until": LATER})
    assert (found.action, found.drain) == (Action.CREATE, DrainFacts(until=LATER))


@pytest.mark.parametrize("registered", [[], [there()], [DRAINED]])
def test_a_drain_whose_end_has_passed_says_nothing(registered: list[KnownInstance]) -> None:
    """A file of yesterday neither drains for no time nor ends the drain of somebody else."""
    found = step({"enabled": False, "drain_reason": "x", "drain_until": START}, *registered)
    assert (found.drain, found.undrains, found.differs) == (None, False, not registered)
    assert found.is_drain_over


def test_a_drain_that_is_too_long_is_a_mistake_of_the_file() -> None:
    with pytest.raises(UsageError, match=r"qwen@llm/h:1: a drain until 2\d{3}-.*is longer than 366 days"):
        step({"enabled": False, "drain_until": START + timedelta(days=367)})


def test_prune_is_about_the_models_of_the_file() -> None:
    twin, other = InstanceKey("qwen@llm", "h", 2), InstanceKey("bge@text2vec", "h", 1)
    service = InstanceKey("WorkerManager@service", "h", 1)
    registered = [there(KEY), there(twin, enabled=False, drain=DrainFacts()), there(other), there(service)]
    steps = make_plan([Declaration(KEY)], registered, prune=True, now=START)
    assert [(each.key, each.action) for each in steps] == [(KEY, Action.KEEP), (twin, Action.PRUNE)]
    assert [each.key for each in make_plan([Declaration(KEY)], registered, prune=False, now=START)] == [KEY]


def test_nothing_declared_prunes_nothing() -> None:
    assert make_plan([], [there()], prune=True, now=START) == []


STATED = st.fixed_dictionaries(
    {},
    optional={
        "weight": st.sampled_from([0.0, 1.0, 2.5]),
        "enabled": st.booleans(),
        "prompt_template": st.sampled_from([None, "chat"]),
        "check_healthy": st.booleans(),
    },
) | st.fixed_dictionaries(
    {"enabled": st.just(False)},
    optional={"drain_reason": st.sampled_from(["disk", "new"]), "drain_until": st.sampled_from([None, START, LATER])},
)
DRAINS = st.sampled_from([None, DrainFacts(), DrainFacts(START, "10.0.0.1", "disk", LATER + timedelta(hours=1))])
FACTS = st.fixed_dictionaries(
    {
        "weight": st.sampled_from([0.0, 1.0, 2.5]),
        "drain": DRAINS,
        "prompt_template": st.sampled_from([None, "", "chat"]),
        "check_healthy": st.booleans(),
        "state": st.sampled_from(InstanceState),
    }
).map(lambda facts: {**facts, "enabled": facts["drain"] is None})


@given(STATED, st.none() | FACTS)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(stated: dict[str, Any], facts: dict[str, Any] | None) -> None:
    """As a registry does it: a register takes weight and template, of what is new all."""
    first = step(stated, *([] if facts is None else [there(**facts)]))
    now = dict(first.facts if facts is None else facts)
    if first.registers:
        now |= {name: first.facts[name] for name in ("weight", "prompt_template")}
        assert first.is_beating or facts is None
    if first.undrains:
        now |= {"enabled": True, "drain": None}
    if first.drain is not None:
        kept = (facts or {}).get("drain")
        reason = first.drain.reason or (kept and kept.reason)
        now |= {"enabled": False, "drain": DrainFacts(START, None, reason, first.drain.until)}
    second = step(stated, there(**now))
    assert second.action is Action.KEEP
    assert second.blocked == first.blocked
