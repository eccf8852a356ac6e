"""The access log: a line for each request, without secrets, in both formats."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.logs.access_log import MAX_PATH_CHARS, shown_path
from dbgpt_ctl.controller.server import with_request_logs
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.clock import ManualClock
from tests.support.dbgpt_process import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.conftest import Serve, Served

INSTANCE = {"model_name": "qwen3@llm", "host": "10.0.0.4", "port": 8001}


def requests(served: Served) -> list[dict[str, Any]]:
    """The lines of the access log, from a log of JSON lines, all of which are valid."""
    lines = map(json.loads, served.process.log.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["event"] == "http.request"]


def line_about(served: Served, path: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        return next((line for line in requests(served) if line["path"] == path), None)

    return until(f"line about {path}", look, served.process)


def test_a_line_in_json_has_the_facts_of_the_request(serve: Serve) -> None:
    served = serve("--log-format", "json", "--access-log", "--log-level", "error", "--trusted-proxies", "127.0.0.1")
    headers = {"X-Request-ID": "abc-1", "X-Forwarded-For": "10.9.8.7", "User-Agent": "x"}
    httpx.post(f"{served.url}/api/controller/models", json=INSTANCE, headers=headers)
    found = line_about(served, "/api/controller/models")
    assert found["duration_ms"] > 0
    assert (found["level"], found["method"], found["status"], found["bytes"]) == ("info", "POST", 200, 4)
    assert (found["address"], found["request_id"], found["instance"]) == (
        "10.9.8.7",
        "abc-1",
        "qwen3@llm/10.0.0.4:8001",
    )
    assert found["message"].startswith('10.9.8.7 - "POST /api/controller/models" 200 4 ')


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/health", 200),
        ("POST", "/api/controller/models", 415),
        ("DELETE", "/api/controller/models", 422),
        ("GET", "/api/v1/status", 200),
        ("HEAD", "/api/v1/instances", 200),
        ("HEAD", "/metrics", 200),
        ("HEAD", "/nowhere", 404),
        ("GET", "/docs", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/api/v1/drain", 405),
    ],
)
def test_the_size_and_the_status_are_those_that_the_client_got(
    serve: Serve, method: str, path: str, status: int
) -> None:
    served = serve("--log-format", "json", "--access-log")
    body = httpx.request(method, f"{served.url}{path}").content

    def look() -> dict[str, Any] | None:
        wanted = (method, path, status)
        return next((x for x in requests(served) if (x["method"], x["path"], x["status"]) == wanted), None)

    assert until("the line", look, served.process)["bytes"] == len(body)


def test_a_line_of_text_has_the_facts_in_a_fixed_order(serve: Serve) -> None:
    served = serve("--access-log", "--log-level", "error")
    httpx.post(f"{served.url}/api/controller/heartbeat", json=INSTANCE, headers={"X-Request-ID": "abc-1"})
    line = until("line", lambda: next((x for x in served.process.log.read_text().splitlines() if "POST" in x), None))
    assert re.fullmatch(
        r"20\S+Z INFO 127\.0\.0\.1 - \"POST /api/controller/heartbeat\" 200 4 [0-9.]+ms request_id=abc-1 "
        r"instance=qwen3@llm/10\.0\.0\.4:8001",
        line,
    )


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_path_from_a_stranger_is_one_short_line_and_the_query_is_left_out(serve: Serve, log_format: str) -> None:
    served = serve("--log-format", log_format, "--access-log")
    poison = "%0AINFO%20fake%1b%5b2J%22%20200%F0%9F%98%80%ED%A0%80%E2%80%AE"
    for path in (f"/{poison}?token=secret", f"//user:password@host/{poison}", f"/{'x' * 5000}", "/end"):
        httpx.get(served.url + path)
    text = until("end", lambda: found if '/end"' in (found := log_of(served)).replace("\\", "") else None)
    assert all(line.isprintable() for line in text.splitlines())
    for hidden in ("secret", "password", "token=", "\nINFO"):
        assert hidden not in text
    assert "/%0AINFO%20fake%1B%5B2J%22%20200" in text
    assert "GET ********@host/" in text
    assert "x" * (MAX_PATH_CHARS + 1) not in text


def log_of(served: Served) -> str:
    return served.process.log.read_text(encoding="utf-8")


def test_a_watch_has_its_line_when_it_ends(serve: Serve) -> None:
    served = serve("--log-format", "json", "--access-log")
    with httpx.stream("GET", f"{served.url}/api/v1/watch") as watch:
        lines = watch.iter_lines()
        assert next(lines)
        httpx.get(f"{served.url}/api/health")
        line_about(served, "/api/health")
        assert not [line for line in requests(served) if line["path"] == "/api/v1/watch"]
    found = line_about(served, "/api/v1/watch")
    assert found["status"] == 200
    assert found["bytes"] > 0


def test_the_line_of_the_log_and_that_of_the_request_have_one_id(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text('mode = "log"\n')
    (tmp_path / "tokens.toml").chmod(0o600)
    served = serve("--log-format", "json", "--access-log", "--tokens-file", "tokens.toml")
    httpx.post(f"{served.url}/api/v1/drain", json=INSTANCE)
    asked = line_about(served, "/api/v1/drain")
    lines = map(json.loads, log_of(served).splitlines())
    refused = next(line for line in lines if line["event"] == "auth.would_refuse")
    assert refused["request_id"] == asked["request_id"]
    assert (refused["reason"], refused["address"]) == ("none", "127.0.0.1")


def test_while_the_logs_need_no_request_nothing_is_around_the_application() -> None:
    for settings, is_plain in ((ControllerSettings(), True), (ControllerSettings(access_log=True), False)):
        app = create_app(settings, EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT))
        assert (with_request_logs(app, settings) is app) is is_plain


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a b", "/a%20b"),
        ("/\ud800", "/%3F"),
        ("http://me:secret@h/x", "http://********@h/x"),
        ("/dctl_0123456789/x", "/********/x"),
        ("/通义", "/%E9%80%9A%E4%B9%89"),
    ],
)
def test_a_path_is_shown_without_what_may_be_a_secret(path: str, shown: str) -> None:
    assert shown_path(path) == shown
    assert len(shown_path(path * 1000)) <= MAX_PATH_CHARS
