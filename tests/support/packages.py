"""The package as its users get it: built, and installed in a virtual environment of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.process import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TIMEOUT_SECS = 240.0
NOT_SOURCE = shutil.ignore_patterns(
    ".git",
    ".venv*",
    ".*_cache",
    ".mysql",
    "node_modules",
    ".hypothesis",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    ".env",
    "*.log",
    "*.db*",
)


@dataclass(frozen=True)
class Built:
    """The two files that a release consists of, and the copy of the source that they were built from."""

    source: Path
    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, python: str = sys.executable) -> Environment:
        run([python, "-m", "venv", str(folder)])
        return cls(folder)

    def command(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def install(self, *what: str) -> None:
        """From the package index, without what was there before."""
        run([self.command("python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what])


def build(folder: Path) -> Built:
    """Builds a copy of this source tree in `folder`: what an earlier build left would get into the wheel."""
    source = shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    run([sys.executable, "-m", "build", "--outdir", str(folder), str(source)])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Built(source, sdist, wheel)


def python_of(version: str) -> str | None:
    """An interpreter of that version, such as 3.12, that can make virtual environments; None where there is none."""
    for candidate in (sys.executable, f"python{version}", "/usr/bin/python3"):
        found = shutil.which(candidate)
        if found and version_of(found) == version:
            return found
    return None


def version_of(python: str) -> str:
    """As 3.12; empty for one that does not run or cannot make virtual environments."""
    code = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def outside() -> dict[str, str]:
    """The environment of somebody who does not have this source tree."""
    ours = {"PYTEST_ADDOPTS", "PYTHONPATH", "PYTHONWARNINGS", "VIRTUAL_ENV"}
    return {name: value for name, value in environment({}).items() if name not in ours}


def run(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> str:
    """Its output. Raises AssertionError with all that it said where it fails."""
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}"
    return done.stdout
