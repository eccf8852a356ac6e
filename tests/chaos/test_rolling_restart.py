"""Two controllers are restarted in turn while DB-GPT's real clients call (rule 11): no call fails."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.controllers import controllers
from tests.support.dbgpt import NEWEST, require
from tests.support.dbgpt_cluster import Lab
from tests.support.dbgpt_process import Process, processes_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.conftest import Figures
    from tests.support.mariadb import MariaDBServer

CLIENTS = 8
POLL_SECS = 5.0
"""How often DB-GPT's clients ask each controller for its health."""
LEAVING_SECS = 30.0
"""More than the 12 s of grace and the time to drain."""
_FAR_END = Path(__file__).with_name("dbgpt_load.py")


@contextmanager
def dbgpt_load(folder: Path, urls: str) -> Iterator[Process]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8"}
    with processes_in(folder, []) as start:
        lab = Lab(folder, "http://127.0.0.1:9", start)
        argv: list[str | Path] = [NEWEST.python, "-P", _FAR_END, urls, str(CLIENTS)]
        process = Process("dbgpt-load", argv, lab.env(), folder, **pipes)
        with process.popen:
            try:
                assert process.popen.stdout
                assert process.popen.stdout.readline() == "running\n", process.tail()
                yield process
            finally:
                process.popen.kill()


@pytest.mark.timeout(240)
def test_no_call_fails(durable_mariadb: MariaDBServer, tmp_path: Path, figures: Figures) -> None:
    require(NEWEST)
    with (
        controllers(tmp_path, [durable_mariadb], 2) as pair,
        dbgpt_load(tmp_path, f"{pair[0].url},{pair[1].url}") as load,
    ):
        time.sleep(2 * POLL_SECS)
        for controller in pair:
            controller.leave(LEAVING_SECS)
            controller.start()
        time.sleep(2 * POLL_SECS)
        out, _ = load.popen.communicate(timeout=30)
        registered = [each.log.count(" registered by ") for each in pair]
    tally = json.loads(out)
    figures.summary(
        "rolling restart of 2 controllers under DB-GPT 0.8.2's clients",
        cycles=2,
        clients=CLIENTS,
        calls=tally["calls"],
        failed_calls=len(tally["failures"]),
        longest_call_secs=tally["longest"],
    )
    assert not tally["failures"], tally["failures"][:20]
    assert tally["calls"] > 500
    assert sum(registered) > 0
