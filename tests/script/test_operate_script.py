"""The pipeline's script, against real controllers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.process import environment
from tests.support.server import running_controller

if TYPE_CHECKING:
    from dbgpt_ctl.registry.contract import ModelRegistry
    from tests.support.database_server import PrivateDatabase

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "operate.sh"
TIMEOUT = timedelta(seconds=60)


def run_script(registry: ModelRegistry, folder: Path) -> None:
    ctl = folder / "ctl"
    ctl.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dbgpt_ctl "$@"\n')
    ctl.chmod(0o755)
    with running_controller(registry) as url:
        done = subprocess.run(
            ["bash", str(SCRIPT)],
            env=environment({"CONTROLLER_ADDRESS": url, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["OK"]), f"{done.stdout}\n{done.stderr}"


def test_over_the_embedded_registry(tmp_path: Path) -> None:
    run_script(EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT), tmp_path)


def test_over_mariadb(tmp_path: Path, mariadb: PrivateDatabase) -> None:
    run_script(DatabaseModelRegistry(mariadb.url, heartbeat_timeout=TIMEOUT), tmp_path)


def test_shellcheck_finds_nothing() -> None:
    program = shutil.which("shellcheck")
    if program is None and not os.environ.get("CI"):
        pytest.skip("shellcheck not found: apt-get install shellcheck")
    assert program, "shellcheck not found: apt-get install shellcheck"
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")
