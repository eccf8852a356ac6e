"""`ctl` inside the test's process: faster than a process of its own, and everything but the process is real."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import pytest

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.cli.clusters import Cluster, cluster
from tests.support.fake_controller import FakeController, fake_controller
from tests.support.process import Finished, environment, expected
from tests.support.server import running_controller
from tests.support.verbs import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Run(Protocol):
    def __call__(self, *args: str, expect: int = 0) -> Finished: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command line; the exit code has to be `expect`. The folder is empty, the environment clean."""
    monkeypatch.chdir(tmp_path)
    kept = environment({})
    for name in set(os.environ) - set(kept):
        monkeypatch.delenv(name)
    for name, value in kept.items():
        monkeypatch.setenv(name, value)

    def run_it(*args: str, expect: int = 0) -> Finished:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            COMMAND(list(args))
        out, err = capfd.readouterr()
        assert isinstance(left.value.code, int)
        return expected(Finished(left.value.code, out, err), expect, args)

    return run_it


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[FakeController]:
    """A fake controller that every command finds."""
    with fake_controller() as controller:
        monkeypatch.setenv("CONTROLLER_ADDRESS", controller.url)
        yield controller


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch, run: Run) -> Iterator[str]:
    """A real controller with an empty registry, which every command finds; its URL."""
    with running_controller(EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))) as url:
        monkeypatch.setenv("CONTROLLER_ADDRESS", url)
        yield url


@pytest.fixture
def there(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A real controller that every command finds; what happens there happened 200 s ago."""
    with cluster() as one:
        monkeypatch.setenv("CONTROLLER_ADDRESS", one.url)
        yield one


@pytest.fixture
def tokens_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tokens file that the environment names; it does not exist yet."""
    monkeypatch.setenv("CONTROLLER_TOKENS_FILE", str(tmp_path / "tokens.toml"))
    return tmp_path / "tokens.toml"
