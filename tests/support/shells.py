"""Real shells on a real terminal, for completion: keys go in, and what `ctl` would have got comes out."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.support.process import CTL, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TAB = "\t"
WAIT_SECS = 60.0
SETUP = {
    "bash": ["source '{script}'", "bind 'set bell-style none'", "bind 'set completion-query-items 0'"],
    "zsh": ["autoload -Uz compinit && compinit -u -d '{folder}/dump'", "source '{script}'", "setopt no_beep"],
    "fish": ["source '{script}'"],
}
COMMANDS = {"bash": ["--norc", "--noprofile", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}
RECORDER = """#!/bin/sh
if [ -n "$_CTL_COMPLETE" ]; then exec {ctl} "$@"; fi
for word; do printf '%s\\0' "$word"; done > {record}.new
mv {record}.new {record}
"""


class RealShell:
    """An interactive shell whose `ctl` completes as the real one does and otherwise notes down its arguments."""

    def __init__(self, child: pexpect.spawn[str], folder: Path) -> None:
        self.child = child
        self.folder = folder
        self.record = folder / "record"

    def typed(self, keys: str) -> list[str]:
        """The arguments that `ctl` gets when these keys and Enter are typed."""
        self.record.unlink(missing_ok=True)
        self.child.send(keys + "\r")
        deadline = time.monotonic() + WAIT_SECS
        while not self.record.exists():
            assert time.monotonic() < deadline, f"nothing was run; the terminal says: {self.child.before!r}"
            self._drain()
        return self.record.read_text().split("\0")[:-1]

    def completed(self, keys: str, wanted: list[str]) -> list[str]:
        """As `typed`, again until `ctl` gets what is wanted: a busy machine may be too slow for a TAB."""
        deadline = time.monotonic() + WAIT_SECS
        got = self.typed(keys)
        while got != wanted and time.monotonic() < deadline:
            got = self.typed(keys)
        return got

    def shown(self, keys: str, *wanted: str) -> str:
        """What the terminal shows, without backslashes, once all of `wanted` is on it; then the line is given up."""
        self.child.send(keys)
        seen = ""
        deadline = time.monotonic() + WAIT_SECS
        while not all(text in seen for text in wanted):
            assert time.monotonic() < deadline, f"{wanted} not in {seen!r}"
            seen += self._drain().replace("\\", "")
        self.child.send("\x03")
        return seen

    def _drain(self) -> str:
        try:
            return str(self.child.read_nonblocking(65536, timeout=0.05))
        except pexpect.TIMEOUT:
            return ""


@contextmanager
def real_shell(name: str, script: str, folder: Path, env: Mapping[str, str]) -> Iterator[RealShell]:
    """The shell in an empty folder, with `script` loaded. In CI its absence is a failure."""
    program = shutil.which(name)
    if program is None:
        missing = f"{name} is missing: install it (Debian: apt install {name})"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    binaries, home = folder / "bin", folder / "home"
    for each in (binaries, home):
        each.mkdir()
    recorder = RECORDER.format(ctl=shlex.join(CTL), record=shlex.quote(str(folder / "record")))
    (binaries / "ctl").write_text(recorder)
    (binaries / "ctl").chmod(0o755)
    (folder / "script").write_text(script)
    full = environment({"HOME": str(home), "PATH": f"{binaries}:{os.environ['PATH']}", "TERM": "xterm", **env})
    child = pexpect.spawn(
        program, COMMANDS[name], env=full, cwd=str(home), encoding="utf-8", timeout=WAIT_SECS, dimensions=(50, 200)
    )
    child.delaybeforesend = None
    shell = RealShell(child, folder)
    try:
        for line in SETUP[name]:
            child.send(line.format(script=folder / "script", folder=folder) + "\r")
        assert shell.typed("ctl " + shlex.quote("is ready")) == ["is ready"]
        yield shell
    finally:
        child.close(force=True)
