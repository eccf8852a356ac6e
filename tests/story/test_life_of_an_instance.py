"""One story, told the same way on three surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.story.surfaces import SURFACES, TIMEOUT_SECS, Surface
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

QWEN = "qwen@llm/10.0.0.4:8001"
OTHER = "bge/large@text2vec/10.0.0.5:8002"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=SURFACES)
def cluster(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Surface]:
    with SURFACES[request.param](clock) as surface:
        yield surface


def test_the_life_of_an_instance(cluster: Surface, clock: ManualClock) -> None:
    assert cluster.list() == {}
    assert cluster.deregister(QWEN) is False, "nothing was ever known of it"

    cluster.register(QWEN, weight=0.5, prompt_template="qwen")
    assert cluster.heartbeat(OTHER) is True, "an unknown beat registers"
    listed = cluster.list()
    assert list(listed) == [OTHER, QWEN], "in order of identity"
    assert listed[QWEN] == {
        "model_name": "qwen@llm",
        "host": "10.0.0.4",
        "port": 8001,
        "weight": 0.5,
        "check_healthy": True,
        "healthy": True,
        "enabled": True,
        "prompt_template": "qwen",
        "last_heartbeat": "2026-01-02T03:04:05.678901+00:00",
    }

    clock.advance(TIMEOUT_SECS)
    assert cluster.heartbeat(OTHER) is True
    clock.advance(0.000001)
    assert list(cluster.list(healthy_only=True)) == [OTHER], "qwen has not beaten for longer than the timeout"
    assert cluster.list()[QWEN]["healthy"] is False

    assert cluster.heartbeat(QWEN) is True
    revived = cluster.list(healthy_only=True)[QWEN]
    assert (revived["weight"], revived["prompt_template"]) == (0.5, "qwen"), "a beat changes no other fact"

    assert cluster.deregister(QWEN) is True
    assert cluster.deregister(QWEN) is True, "repeating it is safe"
    assert cluster.heartbeat(QWEN) is False, "a late beat does not revive"
    assert list(cluster.list(healthy_only=True)) == [OTHER]
    assert cluster.list()[QWEN]["healthy"] is False

    cluster.register(QWEN)
    assert cluster.list(healthy_only=True)[QWEN]["weight"] == 1.0, "a register revives, with its own weight"

    assert cluster.deregister(QWEN, remove=True) is True
    assert list(cluster.list()) == [OTHER]
    assert cluster.heartbeat(QWEN) is False, "the tombstone refuses late beats"
    clock.advance(TIMEOUT_SECS)
    assert cluster.heartbeat(QWEN) is False, "and each refused beat makes it last another timeout"
    clock.advance(TIMEOUT_SECS + 1)
    assert cluster.deregister(QWEN) is False, "then it is as if it never was"
    assert cluster.heartbeat(QWEN) is True
    assert list(cluster.list(healthy_only=True)) == [QWEN]
