"""Which events every kind of registry selects, and that none of them is skipped, however many others there are."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.domain.events import EVERYTHING, Actor, ActorKind, Cause, Change, EventFilter
from dbgpt_ctl.domain.instance import InstanceKey, InstanceState
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.database.session import batches
from dbgpt_ctl.registry.database.tables.events import write_events
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import sent
from tests.support.clock import START

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.registry.backends import Backend

pytestmark = pytest.mark.anyio

HEALTHY, UNHEALTHY, _ = InstanceState
WORKER, EXPIRY = Actor(ActorKind.WORKER, "10.0.0.4", "gpu"), Actor(ActorKind.EXPIRY)
ANNA = Actor(ActorKind.OPERATOR, "10.0.0.9", "anna")
GLM = InstanceKey("glm4@llm", "10.0.0.5", 8001)


def change(
    key: InstanceKey = GLM, verb: str = "expire", actor: Actor = EXPIRY, seconds: float = 0, drained: bool = False
) -> Change:
    return Change(START + timedelta(seconds=seconds), key, HEALTHY, UNHEALTHY, Cause(verb, actor), drained)


def write(registry: ModelRegistry, changes: Sequence[Change]) -> None:
    """As a registry that decides writes what happened."""
    if isinstance(registry, DatabaseModelRegistry):
        for some in batches(changes, 1000):
            registry._database.write(partial(write_events, changes=some))
    elif isinstance(registry, EmbeddedModelRegistry):
        registry._state.log.extend(changes)


async def ids(registry: ModelRegistry, where: EventFilter = EVERYTHING) -> list[int]:
    return [event.id for event in (await registry.events(where=where)).events]


CHANGES = [
    change(sent().key, "register", WORKER),
    change(sent("qwen@text2vec").key, "register", WORKER, 1),
    change(sent("qwen2@llm").key, "register", WORKER._replace(name="anna"), 2),
    change(sent(host="gpu-7", port=9000).key, "drain", ANNA, 3),
    change(GLM, seconds=4),
    change(sent("QWEN@llm").key, seconds=5),
]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (EventFilter(), [1, 2, 3, 4, 5, 6]),
        (EventFilter("qwen@llm"), [1, 4]),
        (EventFilter("qwen"), []),
        (EventFilter(name="qwen"), [1, 2, 4]),
        (EventFilter(name="qwe"), []),
        (EventFilter(type="text2vec"), [2]),
        (EventFilter(type="LLM"), []),
        (EventFilter(name="qwen", type="llm"), [1, 4]),
        (EventFilter(host="gpu-7"), [4]),
        (EventFilter(port=9000), [4]),
        (EventFilter.of(GLM), [5]),
        (EventFilter(verb="register"), [1, 2, 3]),
        (EventFilter(by="worker"), [1, 2, 3]),
        (EventFilter(by="operator"), [4]),
        (EventFilter(by="anna"), [3, 4]),
        (EventFilter(by="gpu", verb="register"), [1, 2]),
        (EventFilter(by="%"), []),
        (EventFilter(since=START + timedelta(seconds=4)), [5, 6]),
        (EventFilter(until=START + timedelta(seconds=1)), [1]),
        (EventFilter(since=START + timedelta(seconds=1), until=START + timedelta(seconds=3)), [2, 3]),
    ],
)
async def test_events_that_match_each_field(backend: Backend, where: EventFilter, expected: list[int]) -> None:
    registry = await backend.open()
    write(backend.deciding[0], CHANGES)
    assert await ids(registry, where) == expected
    page = await registry.events(where=where, after=1, limit=1)
    later = [number for number in expected if number > 1]
    assert [event.id for event in page.events] == later[:1]
    assert page.next_after == (later[0] if later else 6), "a page that is not full ends at the newest event"


async def test_a_drain_is_found_behind_ten_thousand_others(backend: Backend) -> None:
    """As `ctl events glm4@llm --since 2h` asked: the drain was 5 s old, and not in the answer."""
    registry = await backend.open()
    write(backend.deciding[0], [change(sent().key, seconds=number / 10) for number in range(10_695)])
    write(backend.deciding[0], [change(GLM, "drain", ANNA, 1070)])
    page = await registry.events(where=EventFilter("glm4@llm", since=START), after=0)
    assert [(event.id, event.change.cause.verb) for event in page.events] == [(10_696, "drain")]
    assert page.next_after == page.last_id == 10_696


async def test_a_follower_with_a_filter_skips_nothing(backend: Backend) -> None:
    """Of 11,593 events the first 10,000 were taken, and none of them matched: the next page began after the newest."""
    registry = await backend.open()
    write(backend.deciding[0], [change(sent().key) for _ in range(11_590)])
    write(backend.deciding[0], [change(GLM, "drain", ANNA), change(GLM, "undrain", ANNA), change(GLM, "drain", ANNA)])
    found, after = [], 0
    while True:
        page = await registry.events(where=EventFilter(name="glm4"), after=after, limit=2)
        found += [event.id for event in page.events]
        if page.next_after == page.last_id:
            break
        assert page.next_after > after
        after = page.next_after
    assert found == [11_591, 11_592, 11_593]
