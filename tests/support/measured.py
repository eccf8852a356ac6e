"""`ctl` as a process of its own, with the time and the memory that it took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tests.support.process import CTL, TIMEOUT_SECS, environment

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACE = Path(__file__).parent
"""A folder without a .env file."""


@dataclass(frozen=True)
class Measured:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int


MEASURE = """
import os, sys
pid = os.posix_spawn(sys.executable, sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(int(sys.argv[1]), str(usage.ru_maxrss * 1024).encode())
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Starts `ctl` from a small process: the peak of a process counts what the process had that it was forked from."""


def measured(
    *args: str, env: Mapping[str, str] | None = None, cwd: Path = _PLACE, stdin: int = subprocess.DEVNULL
) -> Measured:
    """Runs `ctl` and measures it. Ends it and raises TimeoutExpired after TIMEOUT_SECS."""
    read_end, write_end = os.pipe()
    began = monotonic()
    with os.fdopen(read_end) as report:
        process = subprocess.Popen(
            [sys.executable, "-c", MEASURE, str(write_end), *CTL, *args],
            env=environment(env or {}),
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            pass_fds=[write_end],
            start_new_session=True,
        )
        os.close(write_end)
        try:
            out, err = process.communicate(timeout=TIMEOUT_SECS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # both processes
            process.communicate()
            raise
        return Measured(process.returncode, out, err, monotonic() - began, int(report.read()))
