"""The paths of the console, as a browser and a program ask for them, also where authentication is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.controller.console import assets
from dbgpt_ctl.controller.console.endpoint import VIEWS
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.controller.conftest import TIMEOUT
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clock import ManualClock

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PAGES = ("/console/", *(f"/console/{view}" for view in VIEWS))


@pytest.fixture
def checked(clock: ManualClock, tmp_path: Path) -> Iterator[httpx.Client]:
    """A controller in enforce mode."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[token.one]\nrole = "reader"\nsha256 = ["{"0" * 64}"]\n')
    tokens.chmod(0o600)
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    knobs = {"auth": "enforce", "tokens_file": str(tokens)}
    with running_controller(registry, **knobs) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_each_view_is_the_page_and_needs_no_token(checked: httpx.Client, path: str) -> None:
    answer = checked.get(path)
    assert answer.status_code == 200
    assert answer.content == (assets.FOLDER / "index.html").read_bytes()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("name", assets.names())
def test_each_file_needs_no_token(checked: httpx.Client, name: str) -> None:
    if name != assets.PAGE:
        assert checked.get(f"/console/{name}").content == assets.answer(name, {}).body


def test_head_is_answered_like_get(checked: httpx.Client) -> None:
    """Two requests on one connection: a body after HEAD would be taken for the next answer."""
    head, get = checked.head("/console/main.js"), checked.get("/console/main.js")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize("path", ["/console/x.js", "/console//main.js", "/console/%2e%2e/endpoint.py", "/consoles"])
def test_any_other_path_needs_a_reader_as_before(checked: httpx.Client, path: str) -> None:
    assert checked.get(path).status_code == 401


def test_a_module_of_another_release_opens_no_dialog_of_the_browser(checked: httpx.Client) -> None:
    """At Basic a browser would ask for a name and a password, and send them with each request from then on."""
    assert checked.get("/console/x.js").headers["www-authenticate"].startswith("Bearer ")


def test_the_console_is_read_only(checked: httpx.Client) -> None:
    assert checked.post("/console/", json={}).status_code == 401


def test_a_browser_is_led_to_the_console(checked: httpx.Client) -> None:
    for path in ("/", "/console"):
        answer = checked.get(path, headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (307, "console/")


def test_a_program_is_not(http: httpx.Client) -> None:
    assert http.get("/", headers={"Accept": "*/*"}).status_code == 404


def test_an_unknown_file_is_not_found(http: httpx.Client) -> None:
    assert http.get("/console/unknown.js").status_code == 404
    assert http.get("/console/index.html").status_code == 404


def test_without_a_console_nothing_of_it_is_there(clock: ManualClock) -> None:
    registry = EmbeddedModelRegistry(clock=clock, heartbeat_timeout=TIMEOUT)
    with running_controller(registry, no_console=True) as url, httpx.Client(base_url=url, trust_env=False) as client:
        for path in ("/", "/console", *PAGES, "/console/main.js"):
            assert client.get(path, headers=BROWSER).status_code == 404


def test_requests_are_counted(http: httpx.Client) -> None:
    http.get("/console/")
    http.get("/console/main.js")
    counted = 'dbgpt_controller_requests_total{code="200",operation="console"} 2.0'
    assert counted in http.get("/metrics").text
