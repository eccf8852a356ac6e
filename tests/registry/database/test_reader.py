"""What lists are answered from while the database is away keeps the rules of lists."""

from __future__ import annotations

from datetime import UTC, datetime

from dbgpt_ctl.domain.instance import InstanceState, ListedInstance, ModelInstance
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.database.reader import LastKnownList
from tests.registry.backends import sent

AT = datetime(2026, 1, 2, tzinfo=UTC)


def last_known(*states: InstanceState) -> LastKnownList:
    instances = [ModelInstance.first(sent(port=8001 + count), AT) for count in range(len(states))]
    return LastKnownList(Listing(tuple(map(ListedInstance, instances, states))), AT)


def test_only_what_is_healthy_is_routable() -> None:
    known = last_known(*InstanceState)
    for model_name in (None, "qwen@llm"):
        assert [each.state for each in known.listing(model_name, healthy_only=False).entries] == list(InstanceState)
        routable = known.listing(model_name, healthy_only=True)
        assert [each.state for each in routable.entries] == [InstanceState.HEALTHY]
        assert routable.stale_since == AT


def test_one_answer_serves_all_who_ask_the_same() -> None:
    known = last_known(InstanceState.HEALTHY)
    assert known.listing("qwen@llm", healthy_only=True) is known.listing("qwen@llm", healthy_only=True)


def test_names_that_nobody_registered_take_no_memory() -> None:
    known = last_known(InstanceState.UNHEALTHY)
    for count in range(100):
        assert known.listing(f"{count}@llm", healthy_only=False).entries == ()
    assert known.listing(None, healthy_only=True).entries == ()
    assert len(known._listings) == 0
