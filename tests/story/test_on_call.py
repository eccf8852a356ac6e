"""docs/on-call.md has a section for each alert, and its commands print what it shows: each is typed while two real
controllers over one MariaDB are in the state that the alert is about.

    CTL_UPDATE_GOLDEN=1 python -m pytest tests/story/test_on_call.py      writes the outputs anew; then read the diff

Heartbeats and drains are made old in the database, as they would be after minutes or days.
"""

from __future__ import annotations

import os
import re
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chaos.controllers import Controller, controllers, until_each_is_so
from tests.chaos.wire import Instance, Wire
from tests.support.command_lines import parse
from tests.support.database_server import private_server
from tests.support.day2 import database_variables, reader
from tests.support.document_runs import Names, follow, sections
from tests.support.faketime import missing_faketime, other_clock
from tests.support.mariadb import MariaDBServer, missing_programs
from tests.support.process import ROOT, ctl, environment
from tests.support.walkthrough import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from dbgpt_ctl.client.results import Inventory

DOCUMENT = ROOT / "docs" / "on-call.md"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
FIRST = "The first minute"
DATABASE = "dbgpt"
QWEN, GLM = "qwen3@llm", "glm4@llm"
INSTANCES = (
    Instance(QWEN, 8001, "10.0.0.4"),
    Instance(QWEN, 8001, "10.0.0.5"),
    Instance(QWEN, 8001, "10.0.0.6"),
    Instance(GLM, 8002, "10.0.0.4"),
    Instance(GLM, 8002, "10.0.0.5"),
)


@dataclass
class OnCall:
    """Two controllers that share a database, five instances, and somebody who reads the page."""

    server: MariaDBServer
    controllers: list[Controller]
    home: Path
    token: str = ""

    def reader(self) -> Reader:
        token = {"CTL_TOKEN": self.token} if self.token else {}
        return reader(
            self.home, *(controller.url for controller in self.controllers), **database_variables(self.server), **token
        )

    def names(self) -> Names:
        addresses = {
            f"127.0.0.1:{controller.port}": f"10.20.0.1{number}:8000"  # as long as here, so that columns stay straight
            for number, controller in enumerate(self.controllers, 1)
        }
        return Names(
            addresses
            | {f"127.0.0.1:{self.server.port}": "db1:3306", "on '127.0.0.1'": "on 'db1'", "127.0.0.1": "10.0.0.9"}
        )

    def beat(self, *, model_name: str = "") -> None:
        """A heartbeat of each instance, or of those of one model."""
        with Wire(self.controllers[0].url) as wire:
            for instance in INSTANCES:
                if model_name in ("", instance.model_name):
                    assert wire.heartbeat(instance).is_acknowledged

    def sql(self, statement: str) -> None:
        self.server.execute(statement, DATABASE)

    def silence(self, where: str, minutes: int = 5) -> None:
        """The last heartbeats are as old as if the workers had ended then. Returns when that is announced."""
        self.sql(f"UPDATE ctl_instance SET last_heartbeat = last_heartbeat - INTERVAL {minutes} MINUTE WHERE {where}")
        self.until_listed(lambda _: not self._unannounced())

    def _unannounced(self) -> list[tuple[object, ...]]:
        return self.server.execute(
            "SELECT host FROM ctl_instance WHERE announced_state = 'healthy' AND NOT removed "
            "AND deregistered_at IS NULL AND last_heartbeat < UTC_TIMESTAMP() - INTERVAL 60 SECOND",
            DATABASE,
        )

    def until_listed(self, condition: Callable[[Inventory], bool]) -> None:
        """Waits until every controller that runs lists it so."""
        until_each_is_so(self.controllers, lambda client: condition(client.inventory()))

    def until_reason(self, condition: Callable[[str], bool]) -> None:
        """Waits until every controller that runs gives such a reason for its health."""
        until_each_is_so(self.controllers, lambda client: condition(client.status().registry.reason or ""))

    def restart(self, *options: str, **environ: str) -> None:
        for controller in self.controllers:
            controller.kill()
            controller.options, controller.environ = options, environ
            controller.start()


@contextmanager
def all_is_well(night: OnCall) -> Iterator[None]:
    yield


@contextmanager
def a_model_has_no_instance(night: OnCall) -> Iterator[None]:
    night.silence(f"model_name = '{GLM}'")
    yield


@contextmanager
def a_model_has_too_few(night: OnCall) -> Iterator[None]:
    ctl("models", "drain", "qwen3/10.0.0.4:8001", "--reason", "new driver", "-a", night.controllers[0].url)
    night.silence(f"model_name = '{QWEN}' AND host = '10.0.0.5'")
    yield


@contextmanager
def an_instance_flaps(night: OnCall) -> Iterator[None]:
    for _ in range(3):
        night.silence(f"model_name = '{GLM}' AND host = '10.0.0.5'", minutes=2)
        night.beat(model_name=GLM)
    yield


@contextmanager
def a_controller_is_down(night: OnCall) -> Iterator[None]:
    night.controllers[1].kill()
    yield
    night.controllers[1].start()


@contextmanager
def all_controllers_are_down(night: OnCall) -> Iterator[None]:
    for controller in night.controllers:
        controller.kill()
    yield
    for controller in night.controllers:
        controller.start()


@contextmanager
def the_database_is_down(night: OnCall) -> Iterator[None]:
    # A list of all becomes the last known list.
    night.until_listed(lambda inventory: len(inventory.instances) == len(INSTANCES))
    night.server.stop()
    night.until_listed(lambda inventory: inventory.stale_since is not None)
    yield
    night.server.start()
    night.until_listed(lambda inventory: inventory.stale_since is None)


@contextmanager
def the_registry_was_away(night: OnCall) -> Iterator[None]:
    """Of the five instances one sends no heartbeat since."""
    for controller in night.controllers:
        controller.kill()
    night.sql("UPDATE ctl_instance SET last_heartbeat = last_heartbeat - INTERVAL 2 MINUTE")
    night.sql("UPDATE ctl_pulse SET ticked_at = ticked_at - INTERVAL 2 MINUTE, gone_at = NULL, back_at = NULL")
    for controller in night.controllers:
        controller.start()
    night.beat(model_name=QWEN)
    night.until_listed(lambda inventory: inventory.held_until is not None)
    yield
    night.beat()
    night.until_reason(lambda reason: "away" not in reason)


@contextmanager
def a_row_cannot_be_read(night: OnCall) -> Iterator[None]:
    night.sql(f"UPDATE ctl_instance SET announced_state = 'gone' WHERE model_name = '{GLM}' AND host = '10.0.0.5'")
    night.until_reason(lambda reason: "cannot be read" in reason)
    yield
    night.beat()
    night.until_reason(lambda reason: "cannot be read" not in reason)


@contextmanager
def a_clock_is_ahead(night: OnCall) -> Iterator[None]:
    controller = night.controllers[1]
    controller.kill()
    controller.environ = other_clock(300, "UTC")
    controller.start()
    yield
    controller.kill()
    controller.environ = {}
    controller.start()


@contextmanager
def the_registry_is_nearly_full(night: OnCall) -> Iterator[None]:
    night.restart("--max-instances", "5")
    night.silence(f"model_name = '{GLM}' AND host = '10.0.0.5'", minutes=5000)
    yield
    night.restart()


@contextmanager
def a_token_expires(night: OnCall) -> Iterator[None]:
    tokens = night.home / "tokens.toml"
    ctl("token", "create", "gpu-east", "--role", "worker", "--expires", "5d", "-q", "--tokens-file", str(tokens))
    made = ctl("token", "create", "anna", "--role", "operator", "-q", "--tokens-file", str(tokens))
    night.restart("--auth", "enforce", "--tokens-file", str(tokens))
    night.token = f"anna:{made.out.strip()}"
    yield
    night.token = ""
    night.restart()


@contextmanager
def a_drain_is_old(night: OnCall) -> Iterator[None]:
    ctl("models", "drain", "qwen3/10.0.0.4:8001", "--reason", "new disk", "-a", night.controllers[0].url)
    night.sql("UPDATE ctl_instance SET drain_since = drain_since - INTERVAL 3 DAY WHERE drained")
    yield


SCENES: Mapping[str, Any] = {
    FIRST: all_is_well,
    "DbgptModelWithoutInstances": a_model_has_no_instance,
    "DbgptModelBelowMinimum": a_model_has_too_few,
    "DbgptModelFlapping": an_instance_flaps,
    "DbgptControllerDown": a_controller_is_down,
    "DbgptAllControllersDown": all_controllers_are_down,
    "DbgptRegistryStale": the_database_is_down,
    "DbgptRegistryHeld": the_registry_was_away,
    "DbgptDatabaseErrors": a_row_cannot_be_read,
    "DbgptHeartbeatsSlow": all_is_well,
    "DbgptClockOffset": a_clock_is_ahead,
    "DbgptRegistryNearlyFull": the_registry_is_nearly_full,
    "DbgptCredentialExpires": a_token_expires,
    "DbgptDrainedForDays": a_drain_is_old,
}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    if missing := missing_programs() or missing_faketime():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    folder = tmp_path_factory.mktemp("on-call")
    with private_server(MariaDBServer) as server, controllers(folder, [server], 2, database=DATABASE) as running:
        yield OnCall(server, running, folder)


@pytest.mark.slow
@pytest.mark.parametrize("section", SCENES)
def test_a_section_shows_what_ctl_prints(night: OnCall, section: str) -> None:
    night.sql("DELETE FROM ctl_instance")
    night.sql("DELETE FROM ctl_event")
    with Wire(night.controllers[0].url) as wire:
        for instance in INSTANCES:
            assert wire.register(instance).is_acknowledged
    night.sql("UPDATE ctl_instance SET registered_at = registered_at - INTERVAL 2 DAY")
    night.sql("UPDATE ctl_event SET at = at - INTERVAL 2 DAY")
    night.sql("UPDATE ctl_pulse SET gone_at = NULL, back_at = NULL")
    night.sql("DELETE FROM ctl_outage")
    with SCENES[section](night):
        for block in sections(DOCUMENT)[section]:
            follow(night.reader(), block, night.names())


def test_each_section_has_commands_that_are_run() -> None:
    assert [title for title, found in sections(DOCUMENT).items() if not found] == []
    assert list(sections(DOCUMENT)) == list(SCENES)


ANY_NAME = re.compile(r"'\{\{[^{}]*\$labels\.model_name \}\}'")
EITHER = re.compile(r"\{\{ if [^{}]* \}\}(.*)\{\{ else \}\}(.*)\{\{ end \}\}")


def commands_of_alerts(rules: Path) -> list[tuple[str, str]]:
    """The name of each alert with each command that it may show, for the model glm4@llm."""
    groups = yaml.safe_load(rules.read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    found = []
    for alert in alerts:
        text = ANY_NAME.sub("'glm4@llm'", alert["annotations"]["command"])
        either = EITHER.fullmatch(text)
        found += [(alert["alert"], command) for command in (either.groups() if either else (text,))]
    return found


def words(command: str) -> set[str]:
    """Without the name of the model, which differs from scene to scene."""
    return set(shlex.split(command)) - {GLM, QWEN}


def test_each_alert_has_its_section_and_each_section_its_alert() -> None:
    assert {name for name, _ in commands_of_alerts(RULES)} == set(sections(DOCUMENT)) - {FIRST}


@pytest.mark.parametrize(("alert", "command"), commands_of_alerts(RULES), ids=lambda text: str(text)[:40])
def test_the_command_of_an_alert_exists_and_stands_in_its_section(alert: str, command: str) -> None:
    """The page may add flags, such as --no-probe."""
    parse(command)
    typed = [step.line for block in sections(DOCUMENT)[alert] for step in block.commands()]
    assert any(words(command) <= words(line) for line in typed), f"{command} is not among {typed}"


def test_a_command_that_is_none_is_refused() -> None:
    with pytest.raises(Exception, match="no-such"):
        parse("ctl why --no-such-flag -- 'glm4@llm'")
    with pytest.raises(AssertionError, match="no command whi"):
        parse("ctl whi 'glm4@llm'")


def test_an_output_that_differs_from_the_page_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "## One\n\n```console\n$ echo all is well\nall is lost\n```\n\n## Two\n\n```console\n$ false\n```\n"
    )
    somebody = Reader(tmp_path, environment({"PATH": "/usr/bin:/bin"}))
    found = sections(page)
    with pytest.raises(AssertionError, match="all is lost"):
        follow(somebody, found["One"][0], Names({}))
    with pytest.raises(AssertionError, match="false"):
        follow(somebody, found["Two"][0], Names({}))
