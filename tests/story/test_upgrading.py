"""docs/upgrading.md: two controllers over one MariaDB change to the next release and back with its commands, under
workers that send heartbeats and API servers that list: no list fails. A single one keeps what its SQLite file has. `ln`
changes the release that the next restart runs, as on a machine that was set up with docs/deploying.md.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.chaos.controllers import controllers
from tests.chaos.load import Load, Watcher, Worker
from tests.chaos.wire import Instance
from tests.support.database_server import private_server
from tests.support.day2 import database_variables, reader, service, until
from tests.support.document_runs import Names, follow, sections
from tests.support.documents import block_with
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.next_release import NEXT_RELEASE
from tests.support.process import CTL, ROOT, ctl
from tests.support.shell_blocks import run_block

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.chaos.controllers import Controller

DOCUMENT = ROOT / "docs" / "upgrading.md"
DEPLOYING = ROOT / "docs" / "deploying.md"
RESTART = "sudo systemctl restart ctl"
LINKS = re.findall(r"^\$ (sudo ln .+)$", DOCUMENT.read_text(), re.MULTILINE)
DATABASE = "dbgpt"
MODEL = "steady@llm"
INTERVAL_SECS = 0.5
LEAVING_SECS = 30.0
GRACE = ("--shutdown-grace-secs", "1")
"""The clients here change to another controller at once."""

pytestmark = pytest.mark.slow


class Machine:
    """A machine with two releases in its /opt, which is `opt`, and the link that docs/deploying.md makes."""

    def __init__(self, opt: Path) -> None:
        self._opt = opt
        for version, release in {"0.1.0": CTL, "0.2.0": NEXT_RELEASE}.items():
            program = opt / f"ctl-{version}" / "bin" / "ctl"
            program.parent.mkdir(parents=True)
            program.write_text(f'#!/bin/sh\nexec {shlex.join(release)} "$@"\n')
            program.chmod(0o755)
        (link,) = (line for line in block_with(DEPLOYING, "enable --now ctl").text.splitlines() if "ln " in line)
        self.run(link)

    @property
    def program(self) -> list[str]:
        """What the unit of systemd runs."""
        return [str(self._opt / "ctl" / "bin" / "ctl")]

    def run(self, line: str) -> None:
        subprocess.run(["sh", "-eu", "-c", in_opt(line.removeprefix("sudo "), self._opt)], check=True)


def in_opt(text: str, opt: Path) -> str:
    return text.replace("/opt/", f"{opt}/")


@dataclass
class Machines:
    """The machines of the controllers: each link and each restart of a section is on the next one."""

    controllers: Sequence[Controller]
    machines: Sequence[Machine]
    restarts: int = 0

    def restart(self) -> None:
        controller = self.controllers[self.restarts % len(self.controllers)]
        controller.leave(LEAVING_SECS)
        controller.program = self.machines[self.restarts % len(self.machines)].program
        controller.start()
        self.restarts += 1

    def link(self, line: str) -> None:
        self.machines[self.restarts % len(self.machines)].run(line)

    @property
    def instead(self) -> dict[str, Callable[[], None]]:
        return {RESTART: self.restart} | {line: partial(self.link, line) for line in LINKS}

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
    with private_server(MariaDBServer) as server, controllers(tmp_path, [server], 2, *GRACE, database=DATABASE) as pair:
        urls = [controller.url for controller in pair]
        machines = Machines(pair, [Machine(tmp_path / each.name) for each in pair])
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
            follow_section("One controller at a time")
            assert machines.restarts == 2
            follow_section("The tables of two releases")
            follow_section("After")
            follow_section("Taking a release back")
            assert machines.restarts == 4
            load.end()
        expired = server.execute("SELECT COUNT(*) FROM ctl_event WHERE verb = 'expire'", DATABASE)
    for watcher in watchers:
        assert not watcher.failures, watcher.failures[:5]
        assert not watcher.missed, watcher.missed[:5]
        assert watcher.lists > 50
    assert expired == [(0,)]


SQLITE = ("--registry", "database", "--registry-db-type", "sqlite", "--registry-db-name", "ctl.db")


def test_a_single_controller_has_its_drains_after_the_restart(tmp_path: Path) -> None:
    (block,) = sections(DOCUMENT)["A single controller"]
    machine = Machine(tmp_path / "machine")
    with service(tmp_path, *SQLITE) as one:

        def restart() -> None:
            one.stop()
            one.program = machine.program
            one.start()

        ctl("models", "register", "qwen3/10.0.0.4:8001", "qwen3/10.0.0.5:8001", "-a", one.url)
        ctl("models", "drain", "qwen3/10.0.0.4:8001", "--reason", "new disk", "-a", one.url)
        instead = {RESTART: restart} | {line: partial(machine.run, line) for line in LINKS}
        follow(reader(tmp_path, one.url), block, Names({}), instead)
        drained = ctl("models", "list", "--state", "drained", "-o", "name", "-a", one.url)
    assert drained.lines == ["qwen3@llm/10.0.0.4:8001"]


def test_a_link_replaces_the_folder_of_an_older_installation(tmp_path: Path) -> None:
    """The link of the upgrade fails on a folder, and the commands of the page make a link of it."""
    opt = tmp_path / "opt"
    (opt / "ctl" / "bin").mkdir(parents=True)
    with pytest.raises(subprocess.CalledProcessError):
        Machine(opt)
    assert not (opt / "ctl").is_symlink()
    assert [path.name for path in (opt / "ctl").iterdir()] == ["bin"]
    block = block_with(DOCUMENT, "sudo mv /opt/ctl ")
    programs = {"sudo": 'exec "$@"', "systemctl": 'test -x "$PWD/opt/ctl/bin/ctl"'}
    run_block(replace(block, text=in_opt(block.text, opt)), tmp_path, programs)
    assert (opt / "ctl").resolve() == opt / "ctl-0.1.0"
    assert not (opt / "ctl-folder").exists()
