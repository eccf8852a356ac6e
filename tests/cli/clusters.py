"""Controllers for the tests of `ctl why` and `ctl doctor`: real ones whose clock the test turns, and invented ones."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.clock import ManualClock
from tests.support.fake_controller import fake_controller
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.domain.instance import Registration
    from tests.support.fake_controller import FakeController

TIMEOUT_SECS = 60


AGO_SECS = 200.0


class Cluster:
    """One real controller over a registry in memory, whose clock stands still AGO_SECS ago.

    The controller tells ages by the real time: what happens here happened so long ago.
    """

    def __init__(self, url: str, clock: ManualClock, registry: EmbeddedModelRegistry) -> None:
        self.url = url
        self.clock = clock
        self.registry = registry
        self.client = ControllerClient(url)

    def come_to_now(self) -> None:
        """Turns the registry's clock: what does not beat expires."""
        self.clock.advance(AGO_SECS)

    def be_away(self, seconds: float) -> None:
        """The registry notices that its clock stood still for so long."""
        state = self.registry._state
        state.tick(self.clock.now())
        self.clock.advance(seconds)
        state.tick(self.clock.now())

    def register(self, model: str, host: str = "127.0.0.1", port: int = 8001, **facts: Any) -> Registration:
        sent = parse_registration({"model_name": model, "host": host, "port": port, **facts})
        self.client.register(sent)
        return sent


@contextmanager
def cluster() -> Iterator[Cluster]:
    clock = ManualClock(datetime.now(UTC) - timedelta(seconds=AGO_SECS))
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=timedelta(seconds=TIMEOUT_SECS))
    with running_controller(registry) as url:
        there = Cluster(url, clock, registry)
        with there.client:
            yield there


@contextmanager
def stock_controller(objects: list[dict[str, Any]]) -> Iterator[FakeController]:
    """Answers as DB-GPT's own does: nothing below /api/v1."""
    with fake_controller(body=objects) as fake:
        yield fake
