"""Real workers end. A polite end shows at once, a killed worker after the heartbeat timeout."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.dbgpt_cluster import Controller, Worker, start_worker
from tests.support.dbgpt_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop

TIMEOUT_SECONDS = 4
"""Well above the interval of heartbeats, for a busy machine; well below the timeout of a test."""


@pytest.fixture(scope="module")
def ending(
    release: Release, registry: str, new_lab: NewLab, openai: FakeOpenAI
) -> Iterator[tuple[Controller, Worker, Worker]]:
    """A controller and two live workers: one to end politely, one to be killed."""
    with new_lab("ending") as lab:
        controller = Controller(lab, registry, timeout=TIMEOUT_SECONDS).start()
        workers = [start_worker(lab, release, controller.url, openai.base, name) for name in ("polite", "killed")]
        models = [worker.model for worker in workers]
        until("workers", lambda: controller.beats(*models), controller.process, *(worker.process for worker in workers))
        yield controller, workers[0], workers[1]


def test_a_worker_that_stops_is_unhealthy_at_once(ending: tuple[Controller, Worker, Worker]) -> None:
    controller, polite, _ = ending
    polite.process.interrupt()
    gone = controller.instances()
    assert (gone[polite.model]["healthy"], gone[polite.service]["healthy"]) == (False, False)

    def is_logged(instance: str) -> bool:
        """It may have expired instead."""
        return f"{instance} deregistered by" in controller.process.log.read_text(encoding="utf-8")

    until("lines of the log", lambda: is_logged(polite.model) and is_logged(polite.service), controller.process)


def test_a_killed_worker_is_unhealthy_after_the_timeout(ending: tuple[Controller, Worker, Worker]) -> None:
    controller, _, killed = ending
    until("beat of the worker to be killed", lambda: controller.beats(killed.model), controller.process)
    killed.process.kill()
    until("end of the killed worker's model", lambda: not controller.beats(killed.model), controller.process)
    assert controller.instances(healthy_only="true").get(killed.model) is None
    last = controller.instances()[killed.model]
    assert (last["healthy"], last["enabled"]) == (False, True)
    age = datetime.now(UTC) - datetime.fromisoformat(last["last_heartbeat"])
    assert age.total_seconds() > TIMEOUT_SECONDS
