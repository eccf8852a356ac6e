"""`dbgpt trace list` of the real package reads the trace file of this controller."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dbgpt import CHECKOUT
from tests.support.dbgpt_process import get, until
from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_cluster import Lab

pytestmark = pytest.mark.interop

REFERENCE = "qwen@llm/10.0.0.4:8001"
PREFIX = "dbgpt.model.controller."


def traced_life(lab: Lab, file: Path) -> None:
    """A controller at which an instance registers, sends a heartbeat and deregisters. Its end completes the file."""
    port = free_port()
    argv = [sys.executable, "-m", "dbgpt_ctl", "serve", "--port", str(port), "--tracer-file", str(file)]
    process = lab.start("traced", argv, lab.env(PYTHONPATH=str(CHECKOUT)))
    url = f"http://127.0.0.1:{port}"
    until("controller", lambda: get(f"{url}/api/health"), process)
    for verb in ("register", "deregister"):
        done = lab.ctl("models", verb, REFERENCE, CONTROLLER_ADDRESS=url)
        assert done.returncode == 0, done.stderr
    assert process.terminate() == 0


def test_trace_list_shows_register_and_deregister(newest: Release, new_lab: NewLab) -> None:
    with new_lab("traces") as lab:
        file = lab.folder / "logs" / "dbgpt_model_controller_tracer.jsonl"
        traced_life(lab, file)
        shown = lab.dbgpt(newest, "http://127.0.0.1:9", "trace", "list", "--output", "json", str(file))
        assert shown.returncode == 0, shown.stderr
        _, *spans = json.loads(shown.stdout[shown.stdout.index("[") :])
        assert [span["Operation Name"] for span in spans] == [
            "DB-GPT-ModelController",
            f"{PREFIX}register_instance",
            "DB-GPT-ModelController",
            f"{PREFIX}deregister_instance",
        ]
        lines: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
        assert [span["Span ID"] for span in spans] == [span["span_id"] for span in lines]
        found = lab.dbgpt(newest, "http://127.0.0.1:9", "trace", "list", "--search", "10.0.0.4", str(file))
        assert found.stdout.count(f"{PREFIX}register_instance") == 1
        assert "DB-GPT-ModelController" not in found.stdout
