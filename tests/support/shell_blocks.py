"""Runs the commands of a block of shell in a document as a reader types them."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.documents import Block


def run_block(block: Block, folder: Path, programs: Mapping[str, str] | None = None) -> str:
    """What the commands print, run in `folder`. Raises AssertionError unless all of them end with 0.

    `ctl` is that of this checkout. `programs`: for a name, what the shell runs in its place, such as `exec "$@"`.
    """
    stand_ins = folder / ".programs"
    stand_ins.mkdir()
    for name, script in {"ctl": f'exec {shlex.join(CTL)} "$@"', **(programs or {})}.items():
        file = stand_ins / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
    path = os.pathsep.join((str(stand_ins), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        ["sh", "-eu", "-c", block.text],
        cwd=folder,
        env=environment({"PATH": path}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
