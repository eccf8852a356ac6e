from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import yaml

from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_tracer
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.failure_causes import FailureCause
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.cli.schemas import validated
from tests.support.fake_controller import fake_controller
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbgpt_ctl.registry.contract import RegistryHealth
    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

NOBODY = "http://127.0.0.1:1"


def test_one_healthy(run: Run, controller: str) -> None:
    done = run("health")
    header, row = done.lines
    assert re.split(" {2,}", header) == ["CONTROLLER", "STATUS", "LATENCY", "DETAIL"]
    assert re.fullmatch(rf"{controller}  healthy +[0-9.]+ms +ok", row)
    assert done.err == ""
    assert run("health", "--no-headers").lines[0].startswith(controller)


def test_no_controller(run: Run) -> None:
    done = run("health", "-a", NOBODY, expect=3)
    assert done.lines[1].split()[:3] == [NOBODY, "unreachable", "-"]
    fix = FailureCause.REFUSED.fix
    assert done.err == f"ctl: the controller is unreachable\nctl: {NOBODY}: {fix} [connection-refused]\n"


class Degraded(EmbeddedModelRegistry):
    """A registry that says what is wrong with it."""

    def health(self) -> RegistryHealth:
        return super().health().with_checks(Check("database", "database db1:3306/dbgpt: Connection refused"))


@pytest.fixture
def registry() -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))


@pytest.fixture
def degraded() -> Iterator[str]:
    with running_controller(Degraded(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))) as url:
        yield url


def statuses(run: Run, *args: str, expect: int = 0) -> list[tuple[str, str]]:
    objects = validated("health", json.loads(run("health", "-o", "json", *args, expect=expect).out))
    return [(each["status"], each["detail"]) for each in objects]


def test_a_degraded_one_serves_and_says_what_is_wrong(run: Run, degraded: str) -> None:
    assert statuses(run, "-a", degraded) == [("degraded", "database db1:3306/dbgpt: Connection refused")]
    done = run("health", "-a", degraded, "--require", "healthy", expect=5)
    assert done.err == "ctl: the controller is degraded\n"


def test_what_is_required_counts_for_one_or_for_all(run: Run, degraded: str, controller: str) -> None:
    both = f"{degraded},{controller}"
    run("health", "-a", both, "--all")
    run("health", "-a", both, "--require", "healthy")
    done = run("health", "-a", both, "--require", "healthy", "--all", expect=5)
    assert done.err == "ctl: 1 of 2 controllers is healthy\n"
    done = run("health", "-a", f"{both},{NOBODY}", "--require", "healthy", "--all", expect=3)
    assert done.err.startswith("ctl: 1 of 3 controllers is healthy\n")
    assert "--require" in run("health", "--require", "leaving", expect=2).err


def test_one_that_leaves(run: Run, registry: EmbeddedModelRegistry) -> None:
    settings = ControllerSettings()
    app = create_app(settings, registry, create_tracer(settings))
    with running_app(app) as url:
        app.state.controller.leave()
        assert statuses(run, "-a", url, expect=3) == [("leaving", "this controller is leaving")]
        assert run("health", "-a", url, "-o", "csv", expect=3).err == "ctl: the controller is leaving\n"
        assert "leaving: this controller" in run("wait", "--controller", "--timeout", "1ms", "-a", url, expect=5).err


def test_one_that_answers_with_an_error(run: Run, fake: FakeController) -> None:
    """An older release that leaves is not told apart: the detail shows it."""
    fake.health = 503
    assert statuses(run, expect=3) == [("unhealthy", "leaving")]


def test_what_is_no_controller_is_unreachable(run: Run) -> None:
    with fake_controller() as other:
        vars(other)["answer"] = lambda _path: (200, b"<html>")
        ((status, detail),) = statuses(run, "-a", other.url, expect=3)
    assert status == "unreachable"
    assert "not a DB-GPT controller" in detail


def test_one_of_two_is_enough_unless_all_are_wanted(run: Run, fake: FakeController) -> None:
    both = f"{NOBODY},{fake.url}"
    assert len(run("health", "-a", both).lines) == 3
    done = run("health", "-a", both, "--all", expect=3)
    assert done.err.splitlines()[0] == "ctl: 1 of 2 controllers is healthy or degraded"
    run("health", "-a", fake.url, "--all")


@pytest.mark.parametrize("form", ["json", "yaml", "csv"])
def test_for_scripts(run: Run, fake: FakeController, form: str) -> None:
    out = run("health", "-a", f"{NOBODY},{fake.url}", "-o", form).out
    if form == "csv":
        down, up = csv.DictReader(io.StringIO(out))
    else:
        down, up = json.loads(out) if form == "json" else yaml.safe_load(out)
        assert (down["latency_secs"], up["http_status"]) == (None, 200)
        assert up["latency_secs"] > 0
    assert (down["controller"], down["status"], down["cause"]) == (NOBODY, "unreachable", "connection-refused")
    assert (up["controller"], up["status"], up["detail"]) == (fake.url, "healthy", "ok")


def test_a_token_is_not_shown(run: Run, fake: FakeController) -> None:
    done = run("health", "-a", fake.url.replace("//", "//user:s3cret@"))
    assert "s3cret" not in done.out + done.err
    assert fake.url in done.out
