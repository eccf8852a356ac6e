"""Real processes for the interop tests. A process has a log of its own and is always ended by its own id."""

from __future__ import annotations

import signal
import ssl
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

Found = TypeVar("Found")
GRACE_SECONDS = 10.0


class StartProcess(Protocol):
    """How a test starts a process that is ended with it."""

    def __call__(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str]) -> Process: ...


class Process:
    """A child in a session of its own; its output, both streams, goes to `log`."""

    def __init__(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str], cwd: Path, **popen: Any) -> None:
        self.name = name
        self.log = cwd / f"{name}.log"
        with self.log.open("ab") as log:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log} | popen
            self.popen: subprocess.Popen[Any] = subprocess.Popen(
                argv, env=dict(env), cwd=cwd, start_new_session=True, **options
            )

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    def interrupt(self) -> int:
        """Sends Ctrl-C and waits for the end. The exit code."""
        return self._end(signal.SIGINT)

    def terminate(self, grace: float = 0) -> int:
        """`grace`: how many seconds it serves on."""
        return self._end(signal.SIGTERM, GRACE_SECONDS + grace)

    def kill(self) -> int:
        """Without a chance to clean up."""
        return self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals, seconds: float = GRACE_SECONDS) -> int:
        if self.runs:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(GRACE_SECONDS)
            raise AssertionError(
                f"{self.name} was still there {seconds:.0f} s after {number.name}\n{self.tail()}"
            ) from None

    def tail(self, lines: int = 40) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"--- last lines of {self.log}", *text[-lines:]])


@contextmanager
def processes_in(folder: Path, started: list[Process]) -> Iterator[StartProcess]:
    """Yields a function that starts processes in `folder` and adds them to `started`. They end in reverse order."""
    with ExitStack() as stack:

        def start(name: str, argv: Sequence[str | Path], env: Mapping[str, str]) -> Process:
            process = Process(name, argv, env, folder)
            started.append(process)
            stack.callback(started.remove, process)
            stack.callback(_end_quietly, process)
            return process

        yield start


def _end_quietly(process: Process) -> None:
    """For the end of a test. A test that checks how a process ends does that itself."""
    if process.runs:
        process.popen.terminate()
        try:
            process.popen.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.popen.kill()
    process.popen.wait()


def until(what: str, look: Callable[[], Found | None], *needed: Process, seconds: float = 60.0) -> Found:
    """Calls `look` until it returns something true. Fails after `seconds`, or when a needed process has ended."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        for process in needed:
            assert process.runs, (
                f"waiting for {what}: {process.name} ended with {process.popen.returncode}\n{process.tail()}"
            )
        if time.monotonic() > deadline:
            tails = "\n".join(process.tail() for process in needed)
            raise AssertionError(f"no {what} within {seconds:.0f} s\n{tails}")
        time.sleep(0.05)


def get(url: str, authority: Path | None = None, /, **query: str) -> Any | None:
    """The decoded JSON at `url`, or None while no server answers 200 there. Never through a proxy.

    `authority`: the certificate that an https server's must come from.
    """
    verify = True if authority is None else ssl.create_default_context(cafile=authority)
    try:
        reply = httpx.get(url, params=query, trust_env=False, timeout=5, verify=verify)
    except httpx.TransportError:
        return None
    return reply.json() if reply.status_code == 200 else None
