"""The paths of the console, as a browser and a program ask for them, also where authentication is on."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import pytest

from dbgpt_ctl.controller.console import endpoint
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
    settings = {"auth": "enforce", "tokens_file": str(tokens)}
    with running_controller(registry, **settings) as url, httpx.Client(base_url=url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", PAGES)
def test_each_view_is_the_page_and_needs_no_token(checked: httpx.Client, path: str) -> None:
    answer = checked.get(path)
    assert answer.status_code == 200
    assert answer.content == (endpoint.FOLDER / "index.html").read_bytes()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("name", endpoint.names())
def test_each_file_needs_no_token(checked: httpx.Client, name: str) -> None:
    if name != endpoint.PAGE:
        assert checked.get(f"/console/{name}").content == endpoint.answer(name, {}).body


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


NAMES = endpoint.names()
COMMENT = re.compile(r"^\s*/\*.*?\*/$|/\*\* @.*?\*/|(?:^|(?<=[;{] )|(?<=, ))//[^\n]*$", re.DOTALL | re.MULTILINE)
TEMPLATE = re.compile(r"`(?:[^`\\]|\\.)*`")


def test_the_page_and_its_parts_are_there() -> None:
    assert {"index.html", "main.js", "style.css", "icon.svg", "views/overview.js"} <= set(NAMES)


def test_each_file_of_the_folder_has_a_media_type_or_holds_types_alone() -> None:
    files = {path.relative_to(endpoint.FOLDER).as_posix() for path in endpoint.FOLDER.rglob("*") if path.is_file()}
    assert files - set(NAMES) == {"types.d.ts", "wire.d.ts"}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_sent_compressed_where_the_browser_can_read_it(name: str) -> None:
    plain = endpoint.answer(name, {})
    assert plain.status_code == HTTPStatus.OK
    assert "content-encoding" not in plain.headers
    compressed = endpoint.answer(name, {"accept-encoding": "br, gzip"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(bytes(compressed.body)) == plain.body
    assert len(compressed.body) < len(plain.body)


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_a_module_is_sent_whole_but_for_comments_and_spaces(name: str) -> None:
    sent = bytes(endpoint.answer(name, {}).body).decode()
    source = (endpoint.FOLDER / name).read_text(encoding="utf-8")
    assert without_spaces(sent) == without_spaces(COMMENT.sub("", source))
    assert "/**" not in sent


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".js")])
def test_no_template_is_in_another_one(name: str) -> None:
    """The minifier takes the second backquote for the end of the first template, and spaces in the rest would go."""
    source = COMMENT.sub("", (endpoint.FOLDER / name).read_text(encoding="utf-8"))
    sent = bytes(endpoint.answer(name, {}).body).decode()
    for template in TEMPLATE.findall(source):
        assert template.count("{") == template.count("}"), template
        assert template in sent


def test_every_answer_has_the_headers_that_keep_foreign_code_out() -> None:
    etag = endpoint.answer("main.js", {}).headers["etag"]
    for answer in (endpoint.answer("index.html", {}), endpoint.answer("main.js", {"if-none-match": etag})):
        assert "require-trusted-types-for 'script'" in answer.headers["content-security-policy"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_all_files_are_of_one_release_while_the_package_is_replaced(tmp_path: Path) -> None:
    script = "import sys, pathlib\nfrom dbgpt_ctl.controller.console import endpoint\n"
    script += "endpoint.FOLDER = pathlib.Path(sys.argv[1])\nnames = endpoint.names()\n"
    script += "[(endpoint.FOLDER / name).unlink() for name in names]\n(endpoint.FOLDER / 'later.js').touch()\n"
    script += "print(names, endpoint.names(), endpoint.answer('main.js', {}).body)"
    (tmp_path / "main.js").write_text("one()")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "('main.js',) ('main.js',) b'one()'\n"


def test_a_browser_that_has_the_file_gets_no_body() -> None:
    etag = endpoint.answer("main.js", {}).headers["etag"]
    answer = endpoint.answer("main.js", {"if-none-match": f'W/"old", {etag}'})
    assert (answer.status_code, answer.body) == (HTTPStatus.NOT_MODIFIED, b"")
    assert answer.headers["etag"] == etag
    assert endpoint.answer("main.js", {"if-none-match": '"old"'}).status_code == HTTPStatus.OK
