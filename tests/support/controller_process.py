"""`ctl serve` as a process, for tests that only call it."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.support.ports import free_port
from tests.support.process import start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_SECS = 60.0


@contextmanager
def serving(flags: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Iterator[str]:
    """A controller on a free port, killed when the block is left; gives its base URL once health answers 200."""
    port = free_port()
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with start("serve", "--port", str(port), *flags, env=env, **silent) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until_healthy(f"{url}/api/health", process)
            yield url
        finally:
            process.kill()


def until_healthy(url: str, process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Waits until `url` answers 200. Fails when the process ends before."""
    deadline = time.monotonic() + START_SECS
    while not _is_healthy(url):
        assert process.poll() is None, f"{process.args!r} ended"
        assert time.monotonic() < deadline, f"{url} does not answer 200"
        time.sleep(0.05)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
