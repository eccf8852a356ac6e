"""`ctl` as a process of its own, as a person or a script starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parent.parent.parent
CTL = [sys.executable, "-m", "dbgpt_ctl"]
TIMEOUT_SECS = 60.0


@dataclass(frozen=True)
class Finished:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class UnexpectedExit(AssertionError):
    """The command ended with another exit code than the test said."""


def ctl(*args: str, expect: int | None = 0, program: Sequence[str] = CTL, **options: Any) -> Finished:
    """Runs `ctl` and waits for it. Raises UnexpectedExit unless its exit code is `expect`; None takes any.

    `program` is another release of `ctl`. `options`: `env` as for `environment`; anything else goes to subprocess.run.
    """
    env = environment(options.pop("env", {}))
    timeout = options.pop("timeout", TIMEOUT_SECS)
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(
        [*program, *args],
        env=env,
        encoding="utf-8",
        timeout=timeout,
        check=False,
        **{**_PLACE, **streams, **options},
    )
    finished = Finished(done.returncode, done.stdout or "", done.stderr or "")
    return finished if expect is None else expected(finished, expect, args)


def start(*args: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Starts `ctl` with its output in pipes; who calls it ends it."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*CTL, *args], env=environment(env or {}), encoding="utf-8", **{**_PLACE, **streams, **options}
    )


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change `ctl`, its contexts among it, and with `extra`."""
    changing = ("CONTROLLER_", "CTL_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(changing)}
    ours = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "LC_ALL": "C.UTF-8", "XDG_CONFIG_HOME": os.devnull}
    return kept | ours | dict(extra)


def expected(done: Finished, code: int, args: tuple[str, ...]) -> Finished:
    """`done`, if it ended with `code`."""
    if done.code != code:
        raise UnexpectedExit(f"ctl {' '.join(args)}: exit {done.code}, not {code}\n{done.out}\n{done.err}")
    return done


_PLACE = {"cwd": Path(__file__).parent}
"""A folder without a .env file."""
