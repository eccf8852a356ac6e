from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.tracing import writer
from tests.support.clock import ManualClock
from tests.tracing.keeping import Hangs, Keeps

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are written at once, and failed batches are tried again at once."""
    for name in ("WRITE_EVERY_SECS", "FIRST_RETRY_SECS", "LAST_RETRY_SECS"):
        monkeypatch.setattr(writer, name, 0.01)


@pytest.fixture(autouse=True)
def straight(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, and no exporter that the environment configures."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    Keeps.forget()
    Hangs.let_go.clear()
    yield
    Hangs.let_go.set()
    Keeps.forget()


@pytest.fixture
def registry() -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=timedelta(seconds=60), max_instances=1)
