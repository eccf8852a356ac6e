"""A list in parts, in memory: other calls are served between two parts, and their effect is seen."""

from __future__ import annotations

import pytest

from dbgpt_ctl.errors import RegistryUnavailable
from dbgpt_ctl.registry.embedded import registry as embedded
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.registry.backends import TIMEOUT, sent
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio
COUNT = 10


@pytest.fixture(autouse=True)
def _few_per_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LISTED_PER_PART", 3)


async def registry_of(*models: str) -> EmbeddedModelRegistry:
    registry = EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT)
    for number in range(COUNT):
        await registry.register(sent(models[number % len(models)], port=number + 1))
    return registry


@pytest.mark.parametrize(
    "models", [("one@llm",), ("one@llm", "two@llm"), [f"m{number}@llm" for number in range(COUNT)]]
)
async def test_parts_are_small_whatever_the_models_are(models: tuple[str, ...]) -> None:
    registry = await registry_of(*models)
    parts = [part.entries async for part in registry.list_in_parts()]
    assert [len(part) for part in parts] == [3, 3, 3, 1]
    assert sorted(entry.instance.key.port for part in parts for entry in part) == list(range(1, COUNT + 1))


async def test_what_happens_between_two_parts_is_seen() -> None:
    registry = await registry_of("one@llm", "two@llm")
    parts = registry.list_in_parts()
    first = {entry.instance.key for entry in (await anext(parts)).entries}
    others = [entry.instance.key for entry in (await registry.list()).entries if entry.instance.key not in first]
    removed, drained = others[0], others[-1]
    await registry.deregister(removed, remove=True)
    await registry.drain(drained)
    rest = {entry.instance.key: entry.drain is not None async for part in parts for entry in part.entries}
    assert rest == {key: key == drained for key in others if key != removed}


async def test_a_registry_that_is_closed_meanwhile_says_so() -> None:
    registry = await registry_of("one@llm")
    parts = registry.list_in_parts()
    await anext(parts)
    await registry.close()
    with pytest.raises(RegistryUnavailable):
        await anext(parts)
