"""Clusters of two controllers, and the programs of Prometheus."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.chaos.controllers import Controller, controllers
from tests.monitoring.prometheus import Prometheus, prometheus
from tests.support.database_server import private_server
from tests.support.fleet import Fleet, fleet
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.process import ctl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def find(name: str) -> str:
    """The path of a program. A missing one skips the test, and in CI it fails."""
    return found if (found := shutil.which(name)) else missing(f"{name} is missing: apt-get install prometheus")


def missing(what: str) -> str:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def promtool() -> str:
    return find("promtool")


@dataclass
class Cluster:
    """Two controllers over one database in enforce mode, workers, and the Prometheus that watches them."""

    database: MariaDBServer
    controllers: list[Controller]
    fleet: Fleet
    prometheus: Prometheus
    tokens_file: Path

    def all_is_well(self) -> None:
        self.prometheus.until_all_is_well(len(self.controllers))

    def token(self, *words: str) -> str:
        return ctl("token", *words, "--tokens-file", str(self.tokens_file)).out


@contextmanager
def running_cluster(folder: Path, minimum: Mapping[str, int], *options: str) -> Iterator[Cluster]:
    """`minimum` is by model name, `options` are those of each controller."""
    program = find("prometheus")
    if absent := missing_programs():
        missing(absent)
    tokens, scraper = folder / "tokens.toml", folder / "metrics.token"
    at_file = ("--tokens-file", str(tokens), "-q")
    scraper.write_text(ctl("token", "create", "prometheus", "--role", "metrics", *at_file).out)
    operator = ctl("token", "create", "tests", "--role", "operator", *at_file).out.strip()
    ctl("auth", "mode", "enforce", "--tokens-file", str(tokens))
    with (
        private_server(MariaDBServer) as server,
        controllers(folder, [server], 2, *options, "--tokens-file", str(tokens)) as both,
        fleet(",".join(each.url.replace("//", f"//tests:{operator}@") for each in both)) as workers,
        prometheus(program, folder, [f"127.0.0.1:{each.port}" for each in both], scraper, minimum) as watcher,
    ):
        yield Cluster(server, both, workers, watcher, tokens)
