"""By which hosts a controller may be called, and who may change something through a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from fastapi import FastAPI

from dbgpt_ctl.controller.bootstrap import initialize_controller
from dbgpt_ctl.controller.http.cross_site import (
    MAX_KNOWN,
    AllowedHosts,
    CrossSiteGuard,
    host_of,
    require_own_page,
)
from dbgpt_ctl.errors import ForeignOrigin, HostNotAllowed
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.server import running_app

if TYPE_CHECKING:
    from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry

LOOPBACK = ControllerSettings().host_patterns
GOOD: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("ctl", "ctl"),
        ("ctl:8000", "ctl"),
        ("ctl:", "ctl"),
        ("[::1]", "::1"),
        ("[::1]:8000", "::1"),
        ("", None),
        (":8000", None),
        ("::1", None),
        ("a:b", None),
        ("a b", None),
        ("user@ctl", None),
        ("ctl/path", None),
        ("[evil]", None),
    ],
)
def test_the_host_in_a_header(text: str, host: str | None) -> None:
    assert host_of(text) == host


@pytest.mark.parametrize(
    ("patterns", "host", "allowed"),
    [
        (LOOPBACK, "LocalHost.", True),
        (LOOPBACK, "ctl.localhost", True),
        (LOOPBACK, "127.200.0.1", True),
        (LOOPBACK, "::1", True),
        (LOOPBACK, "0:0:0:0:0:0:0:1", True),
        (LOOPBACK, "::ffff:127.0.0.1", True),
        (LOOPBACK, "notlocalhost", False),
        (LOOPBACK, "10.0.0.1", False),
        (LOOPBACK, "127.0.0.1.evil.example", False),
        (["*"], "evil.example", True),
        (["ctl.example"], "CTL.example", True),
        (["ctl.example"], "a.ctl.example", False),
        (["*.example"], "a.b.example", True),
        (["*.example"], "example", False),
        (["*.example"], "badexample", False),
        (["fd00::/8"], "fd00::7", True),
        (["10.0.0.0/8"], "fd00::7", False),
        ([], "localhost", False),
    ],
)
def test_which_hosts_are_allowed(patterns: list[str], host: str, *, allowed: bool) -> None:
    assert (host in AllowedHosts(patterns)) is allowed


def scope(method: str = "GET", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": "/", "headers": named}


@pytest.mark.parametrize("position", [0, 1])
def test_the_place_of_host_among_the_headers_does_not_matter(position: int) -> None:
    guard = CrossSiteGuard(AllowedHosts(LOOPBACK))
    for host, allowed in (("localhost:1", True), ("evil.example", False)) * 2:
        request = scope(accept="*/*")
        request["headers"].insert(position, (b"host", host.encode()))
        if allowed:
            guard.check(request)
        else:
            with pytest.raises(HostNotAllowed, match=r"add evil\.example to its --allowed-hosts"):
                guard.check(request)


def test_a_host_that_is_none_is_refused_with_its_text_cut() -> None:
    with pytest.raises(HostNotAllowed, match="no host name or address") as refused:
        CrossSiteGuard(AllowedHosts(LOOPBACK)).check(scope(host="x y" * 20_000))
    assert len(str(refused.value)) < 300


def test_what_is_remembered_of_hosts_is_bounded() -> None:
    guard = CrossSiteGuard(AllowedHosts(LOOPBACK))
    for number in range(10 * MAX_KNOWN):
        guard.check(scope(host=f"n{number}.localhost"))
    assert len(guard._known) == MAX_KNOWN


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"origin": "http://ctl:8000"}, False),
        ({"origin": "https://ctl:8000"}, False),
        ({"origin": "http://ctl"}, True),
        ({"origin": "http://ctl:8001"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "http://evil", "sec_fetch_site": "cross-site"}, True),
        ({"origin": "http://ctl:8000", "sec_fetch_site": "cross-site"}, True),
        ({"origin": "https://ctl.behind.a.proxy", "sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": ""}, True),
    ],
)
def test_who_may_change_something(headers: dict[str, str], *, refused: bool) -> None:
    guard = CrossSiteGuard(AllowedHosts(["*"]))
    for method in ("GET", "HEAD", "OPTIONS"):
        guard.check(scope(method, host="ctl:8000", **headers))
    for method in ("POST", "DELETE", "PUT", "BREW"):
        if refused:
            with pytest.raises(ForeignOrigin, match="only a page of this controller itself, or a program"):
                guard.check(scope(method, host="ctl:8000", **headers))
        else:
            guard.check(scope(method, host="ctl:8000", **headers))


def test_further_checks_are_for_changes_of_pages() -> None:
    checked: list[dict[str, Any]] = []
    guard = CrossSiteGuard(AllowedHosts(["*"]), cast("Any", checked.append))
    page = {"host": "ctl:8000", "origin": "http://ctl:8000"}
    for request in (scope("POST", host="ctl:8000"), scope("GET", **page), scope("HEAD", **page)):
        guard.check(request)
    with pytest.raises(ForeignOrigin):
        guard.check(scope("POST", host="ctl:8000", origin="http://evil"))
    assert checked == []
    change = scope("DELETE", **page)
    guard.check(change)
    assert checked == [change]


@pytest.mark.parametrize(
    ("method", "headers", "refused"),
    [
        ("GET", {}, False),
        ("HEAD", {"origin": "http://evil"}, False),
        ("POST", {}, True),
        ("POST", {"origin": "http://ctl:8000"}, True),
        ("POST", {"origin": "http://ctl:8000", "content_type": "text/plain"}, True),
        ("POST", {"origin": "http://ctl:8000", "content_type": "application/json"}, False),
        ("POST", {"origin": "http://ctl:8000", "content_type": "Application/JSON; charset=utf-8"}, False),
        ("POST", {"sec_fetch_site": "same-origin", "content_type": "application/json"}, True),
        ("DELETE", {"origin": "http://evil", "content_type": "application/json"}, True),
        ("DELETE", {"origin": "https://x", "sec_fetch_site": "same-origin", "content_type": "application/json"}, False),
    ],
)
def test_a_change_that_a_session_proves_names_its_page(method: str, headers: dict[str, str], *, refused: bool) -> None:
    request = scope(method, host="ctl:8000", **headers)
    if refused:
        with pytest.raises(ForeignOrigin):
            require_own_page(request)
    else:
        require_own_page(request)


@pytest.mark.parametrize(("allowed_hosts", "status"), [(None, 200), ("ctl.example", 421), ("evil.example", 200)])
def test_in_a_foreign_application_hosts_are_restricted_where_they_are_set(
    registry: EmbeddedModelRegistry, allowed_hosts: str | None, status: int
) -> None:
    app = FastAPI()

    @app.post("/mine")
    async def mine() -> int:
        return 1

    initialize_controller(app, registry=registry, settings=ControllerSettings(allowed_hosts=allowed_hosts))
    evil = {"Host": "evil.example"}
    with running_app(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert http.get("/api/health", headers=evil).status_code == status
        assert http.head(f"{url}//api/controller/models", headers=evil).status_code == status
        assert http.post("/mine", headers=evil | {"Origin": "http://evil"}).status_code == 200  # its own affair
        refused = http.post("/api/controller/models", json=GOOD, headers={"Origin": "http://evil"})
        assert (refused.status_code, refused.json()["code"]) == (403, "foreign_origin")
        assert http.get("/api/controller/models").json() == []
