"""`ctl why` and `ctl doctor` recognise a real worker of DB-GPT by its answer to a probe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dbgpt_cluster import Controller, Lab, start_dbgpt_controller, start_worker
from tests.support.dbgpt_process import until

if TYPE_CHECKING:
    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop


def run_json(lab: Lab, url: str, *args: str) -> dict[str, Any]:
    done = lab.ctl(*args, "-o", "json", "--address", url)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_real_worker_is_recognised(release: Release, new_lab: NewLab, openai: FakeOpenAI) -> None:
    with new_lab("why") as lab:
        controller = Controller(lab, "embedded").start()
        worker = start_worker(lab, release, controller.url, openai.base)
        until("worker", lambda: controller.beats(worker.model, worker.service), controller.process, worker.process)
        explained = run_json(lab, controller.url, "why", worker.model.partition("/")[0])
        assert (explained["get_requests"], explained["probed"], explained["findings"]) == (1, 1, [])
        examined = run_json(lab, controller.url, "doctor")
        assert (examined["models"], examined["findings"]) == (2, [])


def test_it_is_recognised_at_dbgpts_own_controller(newest: Release, new_lab: NewLab, openai: FakeOpenAI) -> None:
    with new_lab("why-stock") as lab:
        url = start_dbgpt_controller(lab, newest)
        worker = start_worker(lab, newest, url, openai.base)
        until("worker", lambda: run_json(lab, url, "doctor")["get_requests"] == 2, worker.process)
        explained = run_json(lab, url, "why", worker.model.partition("/")[0])
        assert [finding["code"] for finding in explained["findings"]] == ["stock-controller"]
        assert lab.ctl("why", "nobody", "--address", url).returncode == 4
