"""Runs what a document shows in a real bash, and makes its output comparable with what the document says."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dbgpt_ctl import __version__
from tests.support.ports import free_port
from tests.support.process import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.support.documents import Command

START_SECS = 30.0
BLOCK_SECS = 60.0
END = "\x1e"
"""Printed after each command: no output holds it."""

_SHOWN_AS = [
    (re.compile(r"\b\d+(\.\d+)?[smhd] ago"), "AGE ago"),
    (re.compile(r"\bfor \d+[smhd]\b"), "for AGE"),
    (re.compile(r"\b\d+(\.\d+)? ?ms\b"), "LATENCY"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "TRACE"),
    (re.compile(r"\bdctl_[A-Za-z0-9_-]{43}"), "TOKEN"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)"), "TIME"),
    (re.compile(r"\b(\d{4}-\d\d-\d\d )?\d\d:\d\d(:\d\d)? UTC"), "TIME"),
    (re.compile(rf"\b{re.escape(__version__)} +\d+[smhd]\b"), "VERSION AGE"),
    (re.compile(r"\b\d+\.\d+ s (behind|ahead of) this host"), "N s from this host"),
    (re.compile(r"http://127\.0\.0\.1:\d{4,5}"), "CONTROLLER"),
    (re.compile(r"\b\d+ of at most \d+\b"), "N of at most N"),
    (re.compile(r"[ \t]+"), " "),
    (re.compile(r" $", re.MULTILINE), ""),
]


def comparable(output: str) -> str:
    """Without what differs from run to run, and without the widths of columns, which follow from that."""
    for pattern, word in _SHOWN_AS:
        output = pattern.sub(word, output)
    return output.strip()


@dataclass(frozen=True)
class Ran:
    """A command that was run; its standard output and error as a terminal would have them."""

    command: Command
    output: str
    code: int


@dataclass(frozen=True)
class Reader:
    """Somebody who follows a document: a home that is empty and a controller that has just been started."""

    home: Path
    env: Mapping[str, str]

    def follow(self, commands: Sequence[Command]) -> list[Ran]:
        """Types the commands into one bash."""
        script = "".join(f'{command.line}\nprintf "\\036%s\\036" "$?"\n' for command in commands)
        done = subprocess.run(
            ["bash", "--noprofile", "--norc"],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=dict(self.env),
            cwd=self.home,
            timeout=BLOCK_SECS,
            check=False,
        )
        parts = done.stdout.split(END)[:-1]
        if len(parts) != 2 * len(commands):
            raise AssertionError(f"bash ended early:\n{done.stdout}")
        return [Ran(*parts) for parts in zip(commands, parts[::2], map(int, parts[1::2]), strict=True)]


@contextmanager
def reader(home: Path) -> Iterator[Reader]:
    """A reader with a controller of their own, at the address that CONTROLLER_ADDRESS names."""
    for folder in (".zfunc", ".config/fish/completions"):
        (home / folder).mkdir(parents=True)
    port = free_port()
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    env = environment({"HOME": str(home), "PATH": path, "COLUMNS": "100", "XDG_CONFIG_HOME": str(home / ".config")})
    client = env | {"CONTROLLER_ADDRESS": f"http://127.0.0.1:{port}"}
    with subprocess.Popen(
        ["ctl", "serve", "--port", str(port)], env=env, cwd=home, stderr=subprocess.DEVNULL
    ) as server:
        try:
            deadline = time.monotonic() + START_SECS
            while subprocess.run(["ctl", "health"], env=client, cwd=home, capture_output=True, check=False).returncode:
                assert server.poll() is None, "ctl serve ended"
                assert time.monotonic() < deadline, "ctl serve does not answer"
            yield Reader(home, client)
        finally:
            server.terminate()
