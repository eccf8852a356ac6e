"""The real DB-GPT packages, each release in a virtual environment of its own: they pin old libraries.

`python -m tests.support.dbgpt` makes all of them beforehand; the interop tests make what is missing. They live in the
folder that `CTL_INTEROP_VENVS` names, else in `.venv-interop/` of this checkout.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
_INSTALL_SECONDS = 900
_PROBE = "import ensurepip, sys, venv; print('.'.join(map(str, sys.version_info[:2])))"


class UnavailableError(Exception):
    """The packages cannot be installed on this machine. The message says why, and what to do."""


class NoPythonError(UnavailableError):
    """This machine has no Python for which DB-GPT can be installed."""


@dataclass(frozen=True)
class Release:
    """One release of DB-GPT and what `pip install` needs to make it run."""

    version: str
    requirements: tuple[str, ...]

    def venv(self) -> Path:
        return venvs_folder() / self.version

    @property
    def python(self) -> Path:
        return self.venv() / "bin" / "python"

    @property
    def command(self) -> Path:
        """DB-GPT's own command line tool."""
        return self.venv() / "bin" / "dbgpt"


RELEASES = (
    Release(
        "0.8.2",
        (
            "dbgpt[client,cli,simple-framework,proxy-openai]==0.8.2",
            "dbgpt-ext==0.8.2",
            "dbgpt-serve==0.8.2",
            "pymysql",
            "numpy<2",
        ),
    ),
    Release(
        "0.7.5", ("dbgpt[client,cli,simple-framework,proxy-openai]==0.7.5", "dbgpt-ext==0.7.5", "pymysql", "numpy<2")
    ),
)
NEWEST = RELEASES[0]
"""The release that is compared with, and whose own controller the tests use."""


def venvs_folder() -> Path:
    return Path(os.environ.get("CTL_INTEROP_VENVS") or CHECKOUT / ".venv-interop").absolute()


def ensure(release: Release) -> None:
    """Makes the environment unless it is whole. Safe to call from many processes at once. Raises UnavailableError."""
    with _locked(release) as lock:
        if not _is_whole(release):
            _make(release, lock)


def _is_whole(release: Release) -> bool:
    """The stamp is written last and names what was installed: an interrupted or outdated environment is made again."""
    stamp = _stamp(release)
    return stamp.is_file() and stamp.read_text() == _wanted(release) and os.access(release.python, os.X_OK)


def _stamp(release: Release) -> Path:
    return release.venv() / "interop-requirements.txt"


def _wanted(release: Release) -> str:
    return "".join(f"{requirement}\n" for requirement in release.requirements)


def _make(release: Release, lock: int) -> None:
    python = _python311()
    shutil.rmtree(release.venv(), ignore_errors=True)
    _run(f"making {release.venv()}", [str(python), "-m", "venv", str(release.venv())], lock)
    pip = [str(release.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(f"installing DB-GPT {release.version}", [*pip, *release.requirements], lock)
    _stamp(release).write_text(_wanted(release))


def _run(what: str, argv: list[str], lock: int) -> None:
    """The child holds the lock too. If its parent is killed, no other process begins before the child has ended."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "pass_fds": [lock]}
    try:
        done = subprocess.run(argv, timeout=_INSTALL_SECONDS, check=False, **options)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what} took more than {_INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        raise UnavailableError(f"{what} failed: {(done.stderr or done.stdout).strip()[-2000:]}")


def _python311() -> Path:
    """A Python 3.11 that can make environments. DB-GPT pins libraries that newer versions cannot install."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    candidates = [Path(sys.executable), *(Path(folder) / "python3.11" for folder in folders if folder)]
    candidates += sorted(Path.home().glob(".pyenv/versions/3.11*/bin/python3.11"))
    for python in candidates:
        if os.access(python, os.X_OK) and _version_of(python) == "3.11":
            return python
    raise NoPythonError("DB-GPT can be installed for Python 3.11 only, and no python3.11 with venv is on PATH")


def _version_of(python: Path) -> str:
    """The version that it reports; empty where it does not run or lacks ensurepip.

    The name of a command is not enough: pyenv has commands for versions that are not installed.
    """
    return subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def _locked(release: Release) -> Iterator[int]:
    """Yields the descriptor of the lock file. The processes that have it open hold the lock, which ends with them."""
    folder = venvs_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{release.version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def require(release: Release) -> None:
    """Makes the environment, else skips the test. In CI an installation that fails is a failure."""
    if error := _failure(release):
        if os.environ.get("CI") and not isinstance(error, NoPythonError):
            pytest.fail(str(error))
        pytest.skip(str(error))


@functools.cache
def _failure(release: Release) -> UnavailableError | None:
    """Cached, because an installation may take minutes before it fails."""
    try:
        ensure(release)
    except UnavailableError as error:
        return error
    return None


def main() -> int:
    """Exit code 0 also where this machine has no Python for DB-GPT."""
    for release in RELEASES:
        try:
            ensure(release)
        except UnavailableError as error:
            sys.stderr.write(f"{error}\n")
            return 0 if isinstance(error, NoPythonError) else 1
        sys.stdout.write(f"DB-GPT {release.version} in {release.venv()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
