"""docs/upgrading.md: two controllers over one MariaDB change to the next release and back with its commands, under
workers that send heartbeats and API servers that list: no list fails. A single one keeps what its snapshot has.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.chaos.controllers import controllers
from tests.chaos.load import Load, Watcher, Worker
from tests.chaos.wire import Instance
from tests.support.day2 import database_variables, reader, service, until
from tests.support.document_runs import Names, follow, sections
from tests.support.mariadb import missing_programs, private_mariadb
from tests.support.next_release import NEXT_RELEASE
from tests.support.process import CTL, ROOT, ctl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.chaos.controllers import Controller

DOCUMENT = ROOT / "docs" / "upgrading.md"
DATABASE = "dbgpt"
MODEL = "steady@llm"
INTERVAL_SECS = 0.5
LEAVING_SECS = 30.0
GRACE = ("--shutdown-grace-secs", "1")
"""The clients here change to another controller at once."""

pytestmark = pytest.mark.slow


@dataclass
class Machines:
    """The machines of the controllers: each `systemctl restart ctl` of a section is on the next one."""

    controllers: Sequence[Controller]
    release: Sequence[str] = tuple(CTL)
    restarts: int = 0

    def restart(self) -> None:
        controller = self.controllers[self.restarts % len(self.controllers)]
        controller.leave(LEAVING_SECS)
        controller.program = self.release
        controller.start()
        self.restarts += 1

    @property
    def instead(self) -> dict[str, Callable[[], None]]:
        return {"systemctl restart ctl": self.restart}

    @property
    def names(self) -> Names:
        return Names(
            {
                f"127.0.0.1:{controller.port}": f"10.20.0.1{number}:8000"
                for number, controller in enumerate(self.controllers, 1)
            }
            | {f"127.0.0.1:{self.controllers[0].servers[0].port}": "db1:3306"}
        )


@pytest.mark.timeout(180)
def test_a_release_is_rolled_out_and_taken_back(tmp_path: Path) -> None:
    if missing := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    page = sections(DOCUMENT)
    with private_mariadb() as server, controllers(tmp_path, [server], 2, *GRACE, database=DATABASE) as pair:
        urls = [controller.url for controller in pair]
        machines = Machines(pair)
        somebody = reader(tmp_path, *urls, **database_variables(server))
        with Load() as load:
            workers = [Worker(Instance(MODEL, port), urls, INTERVAL_SECS) for port in (8001, 8002)]
            for worker in workers:
                load.run(worker.beat)
            until("both instances", urls[1], lambda inventory: len(inventory.instances) == len(workers))
            watchers = [Watcher(url, MODEL, others=[other for other in urls if other != url]) for url in urls]
            for watcher in watchers:
                watcher.wanted |= {8001, 8002}
                load.run(watcher.watch)

            def follow_section(title: str) -> None:
                for block in page[title]:
                    follow(somebody, block, machines.names, machines.instead)

            follow_section("Before")
            machines.release = NEXT_RELEASE
            follow_section("One controller at a time")
            assert machines.restarts == 2
            follow_section("The tables of two releases")
            follow_section("After")
            machines.release = CTL
            follow_section("Taking a release back")
            assert machines.restarts == 4
            load.end()
        expired = server.execute("SELECT COUNT(*) FROM ctl_event WHERE verb = 'expire'", DATABASE)
    for watcher in watchers:
        assert not watcher.failures, watcher.failures[:5]
        assert not watcher.missed, watcher.missed[:5]
        assert watcher.lists > 50
    assert expired == [(0,)]


def test_a_single_controller_has_its_drains_after_the_restart(tmp_path: Path) -> None:
    (block,) = sections(DOCUMENT)["A single controller"]
    with service(tmp_path, "--snapshot-file", "ctl.json") as one:

        def restart() -> None:
            one.stop()
            one.start()

        ctl("models", "register", "qwen3/10.0.0.4:8001", "qwen3/10.0.0.5:8001", "-a", one.url)
        ctl("models", "drain", "qwen3/10.0.0.4:8001", "--reason", "new disk", "-a", one.url)
        follow(reader(tmp_path, one.url), block, Names({}), {"systemctl restart ctl": restart})
        drained = ctl("models", "list", "--state", "drained", "-o", "name", "-a", one.url)
    assert drained.lines == ["qwen3@llm/10.0.0.4:8001"]
