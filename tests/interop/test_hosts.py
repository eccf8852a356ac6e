"""Real workers of DB-GPT with a host that is not registered: each ends, and its log says which setting to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.dbgpt_cluster import Controller, start_worker
from tests.support.dbgpt_process import get

if TYPE_CHECKING:
    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    ("flags", "host", "why"),
    [
        (["--deny-loopback-hosts"], "127.0.0.1", "means the machine of whoever calls it"),
        ([], "169.254.169.254", "it is never registered"),
    ],
    ids=["loopback", "metadata"],
)
def test_a_worker_is_refused_and_its_log_names_the_setting(
    release: Release, new_lab: NewLab, openai: FakeOpenAI, *, flags: list[str], host: str, why: str
) -> None:
    with new_lab("hosts") as lab:
        controller = Controller(lab, "sqlite", flags=flags).start()
        worker = start_worker(lab, release, controller.url, openai.base, register_host=host)
        assert worker.process.popen.wait(60) == 0
        log = worker.process.log.read_text(encoding="utf-8")
        assert why in log, worker.process.tail()
        assert "set the worker's worker_register_host" in log
        assert get(f"{controller.url}/api/controller/models") == []
