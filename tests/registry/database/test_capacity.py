"""The limit of instances, and how seldom rows are counted for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from dbgpt_ctl.errors import RegistryFull
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.registry.backends import TIMEOUT, Backend, sent

if TYPE_CHECKING:
    from tests.support.clock import ManualClock


pytestmark = pytest.mark.anyio


@pytest.fixture
def kind(database_kind: str) -> str:
    return database_kind


async def test_the_limit_holds_within_a_batch(backend: Backend) -> None:
    registry = await backend.open(max_instances=10)
    answers = await asyncio.gather(
        *(registry.register(sent(port=port)) for port in range(1, 31)), return_exceptions=True
    )
    assert [answer is None for answer in answers] == [True] * 10 + [False] * 20
    assert len((await registry.list()).entries) == 10


async def test_the_limit_is_counted_again_after_a_while(backend: Backend, clock: ManualClock) -> None:
    one, other = await backend.open(max_instances=3), await backend.open(max_instances=3)
    await one.register(sent(port=1))
    await other.register(sent(port=2))
    await other.register(sent(port=3))
    clock.advance(11)
    with pytest.raises(Exception, match="--max-instances"):
        await one.register(sent(port=4))


async def test_a_full_registry_is_not_searched_again_for_every_refusal(backend: Backend, clock: ManualClock) -> None:
    registry = await backend.open(max_instances=2)
    assert isinstance(registry, DatabaseModelRegistry)
    await registry.register(sent(port=1))
    await registry.register(sent(port=2))
    await registry.deregister(sent(port=2).key, remove=True)
    scans: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "count(" in statement or "WHERE ctl_instance.removed" in statement:
            scans.append(statement)

    event.listen(registry._database.engine, "before_cursor_execute", note)
    for port in range(3, 13):
        with pytest.raises(RegistryFull):
            await registry.register(sent(port=port))
    assert len(scans) == 1
    clock.advance(TIMEOUT.total_seconds() + 1)
    await registry.register(sent(port=3))
