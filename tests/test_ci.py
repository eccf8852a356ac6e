""".ci/run, with a `make` that only prints its target: each suite runs, and none fails unnoticed."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

SUITES = ["check", "test", "hostile", "chaos", "monitoring", "browser", "deploy"]


def ci_run(folder: Path, failing: str = "") -> subprocess.CompletedProcess[str]:
    """A copy of it in `folder`, in which the target `failing` fails."""
    (folder / ".ci").mkdir()
    script = folder / ".ci" / "run"
    script.write_bytes((ROOT / ".ci" / "run").read_bytes())
    make = folder / "make"
    make.write_text('#!/bin/sh\necho "made $1"\n[ "$1" != "$FAILING" ]\n')
    make.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    env = environment({"PATH": path, "TMPDIR": str(folder), "FAILING": failing})
    return subprocess.run(["bash", str(script)], env=env, capture_output=True, text=True, check=False)


def test_every_suite_runs_and_prints(tmp_path: Path) -> None:
    done = ci_run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [suite for suite in SUITES if f"made {suite}\n" not in done.stdout] == []


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_that_fails_fails_the_run_and_its_output_is_there(tmp_path: Path, suite: str) -> None:
    done = ci_run(tmp_path, failing=suite)
    assert done.returncode != 0
    assert f"made {suite}\n" in done.stdout
