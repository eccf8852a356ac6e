"""The last known list keeps the rules of lists, and lists that wait together share one read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.instance import DrainFacts, InstanceState, ListedInstance, ModelInstance
from dbgpt_ctl.registry.contract import Listing
from dbgpt_ctl.registry.database.reader import LastKnownList, ListArguments
from tests.registry.backends import sent

if TYPE_CHECKING:
    from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry


AT = datetime(2026, 1, 2, tzinfo=UTC)


def last_known(*states: InstanceState, drain: DrainFacts | None = None) -> LastKnownList:
    """Of one instance in each state; the last one has the drain."""
    instances = [ModelInstance.first(sent(port=8001 + count), AT) for count in range(len(states))]
    entries = [ListedInstance(instance, state, None) for instance, state in zip(instances, states, strict=True)]
    entries[-1] = entries[-1]._replace(drain=drain)
    return LastKnownList(Listing(tuple(entries)), AT)


def test_only_what_is_healthy_and_not_drained_is_routable() -> None:
    states = [*InstanceState, InstanceState.HEALTHY]
    known = last_known(*states, drain=DrainFacts())
    for model_name in (None, "qwen@llm"):
        assert [
            entry.state for entry in known.listing(ListArguments(model_name, healthy_only=False), None).entries
        ] == states
        routable = known.listing(ListArguments(model_name, healthy_only=True), None)
        assert [(entry.state, entry.drain) for entry in routable.entries] == [(InstanceState.HEALTHY, None)]
        assert routable.stale_since == AT


@pytest.mark.parametrize("time", [None, AT])
def test_equal_calls_get_the_same_answer(time: datetime | None) -> None:
    known, query = last_known(InstanceState.HEALTHY), ListArguments("qwen@llm", healthy_only=True)
    first = known.listing(query, time)
    assert known.listing(query, time) is first


def test_an_answer_has_the_time_of_its_call() -> None:
    known, query = last_known(InstanceState.HEALTHY), ListArguments("qwen@llm", healthy_only=True)
    times = [AT, AT + timedelta(seconds=1), None]
    assert [known.listing(query, time).time for time in times] == times


def test_names_that_nobody_registered_take_no_memory() -> None:
    known = last_known(InstanceState.UNHEALTHY)
    for count in range(100):
        assert known.listing(ListArguments(f"{count}@llm", healthy_only=False), None).entries == ()
    assert known.listing(ListArguments(None, healthy_only=True), None).entries == ()
    assert len(known._listings) == 0


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


@pytest.mark.anyio
async def test_lists_that_wait_together_share_one_answer(
    registry: DatabaseModelRegistry, statements: list[str]
) -> None:
    await registry.register(sent("a@llm"))
    await registry.register(sent("b@llm"))
    statements.clear()
    answers = await asyncio.gather(
        *(registry.list("a@llm") for _ in range(10)),
        *(registry.list("b@llm", healthy_only=True) for _ in range(10)),
        *(registry.list("none@llm") for _ in range(10)),
    )
    assert len({id(answer) for answer in answers}) == 3
    assert [[entry.instance.key.model_name for entry in answer.entries] for answer in answers[::10]] == [
        ["a@llm"],
        ["b@llm"],
        [],
    ]
    assert len([statement for statement in statements if "FROM ctl_instance" in statement]) == 1
