"""`ctl console`: the address of the console, and a browser that gets it and nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import httpx
import pexpect
import pytest
from fastapi import FastAPI

from dbgpt_ctl.cli.commands.console import VIEWS, has_screen
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.bootstrap import initialize_controller
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.fake_controller import fake_controller
from tests.support.process import CTL, environment
from tests.support.server import running_app, running_controller

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.support.fake_controller import FakeController

NOBODY = "http://127.0.0.1:1"
SECRET = "s3cr3t"


def registry() -> EmbeddedModelRegistry:
    return EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes each of its arguments into this file, which is there when one was started."""
    seen, program = tmp_path / "seen", tmp_path / "browser"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {seen}.new && mv {seen}.new {seen}\n")
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    return seen


def on_a_terminal(*args: str, **env: str) -> str:
    """What `ctl console` prints there, without the screen of whoever runs the tests."""
    env = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": "", **env}
    child = pexpect.spawn(
        CTL[0], [*CTL[1:], "console", *args], env=environment(env), encoding="utf-8", timeout=20, dimensions=(24, 200)
    )
    child.expect(pexpect.EOF)
    printed = str(child.before)
    child.close()
    assert child.exitstatus == 0, printed
    return printed


@pytest.mark.parametrize(("view", "path"), VIEWS.items())
def test_it_prints_the_address_of_a_view(run: Run, controller: str, browser: Path, view: str, path: str) -> None:
    """Into a pipe nothing else: no browser opens."""
    done = run("console", view)
    assert (done.out, done.err) == (f"{controller}/console/{path}\n", "")
    assert not browser.exists()
    assert run("console").out == f"{controller}/console/\n"


def test_another_view_is_wrong_usage(run: Run, controller: str) -> None:
    assert "'nodes' is not one of overview, instances, events, controller" in run("console", "nodes", expect=2).err


def test_a_terminal_gets_a_browser_without_any_secret(controller: str, browser: Path) -> None:
    scheme, _, place = controller.partition("://")
    env = {"CONTROLLER_ADDRESS": f"{scheme}://me:{SECRET}@{place}", "BROWSER": str(browser.with_name("browser"))}
    printed = on_a_terminal("instances", **env)
    assert printed.strip() == f"{controller}/console/instances"
    assert browser.read_text() == f"{controller}/console/instances\n"


def test_print_opens_none(controller: str, browser: Path) -> None:
    env = {"CONTROLLER_ADDRESS": controller, "BROWSER": str(browser.with_name("browser"))}
    assert on_a_terminal("--print", **env).strip() == f"{controller}/console/"
    assert not browser.exists()


@pytest.mark.parametrize("env", [{}, {"BROWSER": "/nonexistent"}])
def test_without_a_screen_or_a_browser_it_says_so(controller: str, env: dict[str, str]) -> None:
    lines = on_a_terminal(CONTROLLER_ADDRESS=controller, **env).split("\r\n")
    assert lines[:2] == [
        f"{controller}/console/",
        "ctl: no browser can be opened from here: open this address in yours",
    ]


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({"DISPLAY": ""}, "linux", False),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_where_a_screen_is(environ: dict[str, str], platform: str, expected: bool) -> None:
    assert has_screen(environ, platform) is expected


def test_the_next_controller_counts_where_one_is_down(run: Run, controller: str) -> None:
    assert run("console", "-a", f"{NOBODY},{controller}").out == f"{controller}/console/\n"
    assert "Connection refused" in run("console", "-a", NOBODY, expect=3).err


def refusal(run: Run, url: str) -> str:
    return run("console", "-a", url, expect=6).err.removeprefix(f"ctl: {url} does not support this: ")


def test_a_controller_without_its_console_says_why(run: Run) -> None:
    settings = ControllerSettings.load({"no_console": "true"}, {}, "")
    with running_controller(registry(), no_console=True, origins=settings.origins) as url:
        assert refusal(run, url) == (
            "it serves no console: no_console is set (flag --no-console); restart it without that setting\n"
        )


def test_one_in_another_application_says_so(run: Run) -> None:
    app = FastAPI()
    initialize_controller(app, registry=registry(), settings=ControllerSettings())
    with running_app(app) as url:
        assert refusal(run, url) == (
            "it serves no console, because it runs inside another application; `ctl status` shows the same facts\n"
        )


def test_the_controller_of_dbgpt_has_none(run: Run, fake: FakeController) -> None:
    assert refusal(run, fake.url) == (
        "it has no console, because it is DB-GPT's own controller or an older ctl; "
        "`ctl serve` in its place has one (docs/moving-from-dbgpt.md)\n"
    )


def test_an_older_release_is_to_be_upgraded(run: Run, controller: str) -> None:
    fields = httpx.get(f"{controller}/api/v1/status", trust_env=False).json()
    older = fields | {"controller": fields["controller"] | {"version": "0.9\x1b[31m"}}
    with fake_controller() as fake:
        answer = fake.answer
        vars(fake)["answer"] = lambda path: (
            (200, json.dumps(older).encode()) if path == "/api/v1/status" else answer(path)
        )
        assert refusal(run, fake.url) == "its version 0.9\\x1b[31m has no console; upgrade it (docs/upgrading.md)\n"


def test_another_server_with_a_page_for_any_path_is_no_controller(run: Run) -> None:
    with fake_controller(body=b"<!DOCTYPE html>", headers={"Content-Security-Policy": "default-src 'self'"}) as fake:
        assert "no controller is there" in run("console", "-a", fake.url, expect=3).err


def test_a_reason_that_is_not_told_is_left_out(run: Run) -> None:
    """The settings need a token that may read."""
    with fake_controller() as fake:
        answer = fake.answer
        vars(fake)["answer"] = lambda path: (403, b"{}") if path.startswith("/api/v1") else answer(path)
        assert refusal(run, fake.url) == "it serves no console\n"
