from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.hostile.conftest import serve
from tests.support.clock import ManualClock
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = timedelta(seconds=60)
__all__ = ["serve"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry(clock: ManualClock) -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT, max_instances=3)


@pytest.fixture
def url(registry: EmbeddedModelRegistry) -> Iterator[str]:
    with running_controller(registry) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client
