"""Release 0.1.0, from the history of this repository: the oldest one that shares a cluster with this one."""

from __future__ import annotations

import io
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "4b25d44ac9cbc18ddfd041660e7efa1ee3a1424b"


def first_release(folder: Path) -> dict[str, str]:
    """Unpacks it; gives the variables with which `ctl` of the tests is that release. Skips without the history, as in
    an archive of the source.
    """
    packed = subprocess.run(["git", "archive", COMMIT, "dbgpt_ctl"], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"the history of the repository is missing: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return {"PYTHONPATH": str(folder)}
