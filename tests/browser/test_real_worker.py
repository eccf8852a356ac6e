"""A worker of the real DB-GPT on the page: it registers, is drained and ends, each within two seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.instance import InstanceKey
from tests.support.dbgpt import NEWEST, require
from tests.support.dbgpt_cluster import Lab, start_worker
from tests.support.dbgpt_openai import MODEL, running_fake_openai
from tests.support.dbgpt_process import get, processes_in, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.browser.conftest import Visitor
    from tests.browser.controllers import Controller
    from tests.support.dbgpt_openai import FakeOpenAI

START_SECS = 120


@pytest.fixture(scope="module")
def openai() -> Iterator[FakeOpenAI]:
    require(NEWEST)
    with running_fake_openai() as server:
        yield server


def test_the_life_of_a_real_worker(visit: Visitor, controller: Controller, openai: FakeOpenAI, tmp_path: Path) -> None:
    visited = visit(f"{controller.url}/console/instances")
    expect(visited.console.live).to_be_visible()
    with processes_in(tmp_path, []) as start, ControllerClient(controller.url) as client:
        worker = start_worker(Lab(tmp_path, openai.origin, start), NEWEST, controller.url, openai.base)
        key = InstanceKey(f"{MODEL}@llm", "127.0.0.1", worker.port)
        query = {"model_name": key.model_name, "host": key.host, "port": str(key.port)}
        address = f"{controller.url}/api/v1/instance"
        until("worker", lambda: get(address, **query), worker.process, seconds=START_SECS)
        row, state = visited.console.row(key), visited.console.state(key)
        expect(state).to_have_text("healthy")
        client.drain(key, reason="new driver")
        expect(row).to_contain_text("new driver")
        client.undrain(key)
        expect(row).not_to_contain_text("new driver")
        with worker.stopped():
            until("expiry", lambda: state_of(address, query) == "unhealthy", worker.process)
            expect(state).to_have_text("unhealthy")
        until("heartbeat", lambda: state_of(address, query) == "healthy", worker.process)
        expect(state).to_have_text("healthy")
        worker.process.terminate()
        until("end", lambda: state_of(address, query) == "deregistered")
        expect(state).to_have_text("deregistered")


def state_of(address: str, query: dict[str, str]) -> str | None:
    found = get(address, **query)
    return found["instance"]["state"] if found else None
