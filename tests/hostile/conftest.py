"""What a scenario needs: `ctl serve` as a process of its own, whose memory is bounded and whose answers are timed."""

from __future__ import annotations

import pickle
import sys
from contextlib import ExitStack
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol

import httpx
import pytest

from tests.support.dbgpt_process import Process
from tests.support.ports import free_port
from tests.support.process import CTL, ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from dbgpt_ctl.domain.instance import ModelInstance

PRELOADED = ROOT / "tests" / "hostile" / "preloaded.py"
START_SECS = 30.0


class Served:
    """A controller that runs. Its log is `process.log`."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def pid(self) -> int:
        return self.process.popen.pid

    def health(self) -> httpx.Response:
        """Its answer, whatever its status."""
        return httpx.get(f"{self.url}/api/health", timeout=10)

    def wait_until_healthy(self) -> None:
        """Raises AssertionError with the log when it ends, or is not healthy in time."""
        deadline = monotonic() + START_SECS
        while True:
            assert self.process.runs, self.process.tail()
            assert monotonic() < deadline, self.process.tail()
            try:
                if self.health().status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            sleep(0.02)


class Serve(Protocol):
    """Starts `ctl serve` on a free port of loopback with further arguments; returns when it is healthy. `program`
    stands before the command, such as a shell that sets a limit. A registry in memory holds `instances` from the start.
    """

    def __call__(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
        instances: Sequence[ModelInstance] = (),
    ) -> Served: ...


def pickled(instances: Sequence[ModelInstance], folder: Path) -> Path:
    """The file for `preloaded.py`."""
    file = folder / "instances.pickle"
    file.write_bytes(pickle.dumps(instances))
    return file


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Each controller that the test starts ends with it."""
    with ExitStack() as stack:

        def start(
            *args: str,
            env: Mapping[str, str] | None = None,
            program: Sequence[str] = (),
            instances: Sequence[ModelInstance] = (),
        ) -> Served:
            port = free_port()
            ctl = [sys.executable, str(PRELOADED), str(pickled(instances, tmp_path))] if instances else CTL
            argv = [*program, *ctl, "serve", "--port", str(port), *args]
            process = Process(f"ctl-{port}", argv, environment(env or {}), tmp_path)
            stack.callback(process.kill)
            served = Served(process, port)
            served.wait_until_healthy()
            return served

        yield start
