"""The real packages of DB-GPT, and labs to run them in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.dbgpt import NEWEST, RELEASES, Release, require
from tests.support.dbgpt_cluster import Lab
from tests.support.dbgpt_openai import FakeOpenAI, running_fake_openai
from tests.support.dbgpt_process import Process, processes_in

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

_STARTED = pytest.StashKey[list[Process]]()


class NewLab(Protocol):
    """Makes a folder. At its exit all processes that were started there are ended."""

    def __call__(self, name: str) -> AbstractContextManager[Lab]: ...


@pytest.fixture(scope="session", params=RELEASES, ids=lambda release: release.version)
def release(request: pytest.FixtureRequest) -> Release:
    """Each release of DB-GPT in turn."""
    wanted: Release = request.param
    require(wanted)
    return wanted


@pytest.fixture(scope="session")
def newest() -> Release:
    require(NEWEST)
    return NEWEST


@pytest.fixture(scope="session", params=["embedded", "sqlite"])
def registry(request: pytest.FixtureRequest) -> str:
    """Each kind of registry in turn: the `registry` of `dbgpt_cluster.Controller`."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def openai() -> Iterator[FakeOpenAI]:
    with running_fake_openai() as server:
        yield server


@pytest.fixture(scope="session")
def new_lab(openai: FakeOpenAI, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> NewLab:
    started = pytestconfig.stash.setdefault(_STARTED, [])

    @contextmanager
    def lab(name: str) -> Iterator[Lab]:
        folder = tmp_path_factory.mktemp(name)
        with processes_in(folder, started) as start:
            yield Lab(folder, openai.origin, start)

    return lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows the last log lines of every process. All skips name one place, so that they share a line."""
    report = yield
    if report.failed:
        started = item.config.stash.get(_STARTED, [])
        report.sections.extend((f"log of {process.name}", process.tail()) for process in started)
    elif isinstance(report.longrepr, tuple):
        report.longrepr = (str(item.path.parent), 0, report.longrepr[2])
    return report
