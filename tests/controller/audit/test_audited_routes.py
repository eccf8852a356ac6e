"""What is in the audit log of a real controller."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI

from dbgpt_ctl.controller.audit.audit_log import MAX_STRANGERS_LINES
from dbgpt_ctl.controller.bootstrap import initialize_controller
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.clock import ManualClock
from tests.support.dbgpt_process import until
from tests.support.ports import free_port
from tests.support.process import ctl
from tests.support.server import running_app
from tests.support.tls import authority

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hostile.conftest import Serve, Served

INSTANCE = {"model_name": "qwen3@llm", "host": "10.0.0.4", "port": 8001}
IDENTITY = {name: str(value) for name, value in INSTANCE.items()}
REFERENCE = "qwen3@llm/10.0.0.4:8001"


@dataclass
class Audited:
    """A controller in enforce mode with tokens of anna, an operator, and gpu, a worker."""

    served: Served
    file: Path
    tokens_file: Path
    tokens: dict[str, str]

    def send(self, who: str | None, method: str, path: str, **request: Any) -> httpx.Response:
        auth = None if who is None else (f"label-of-{who}", self.tokens[who])
        return httpx.request(method, f"{self.served.url}/api{path}", auth=auth, timeout=10, **request)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]

    def about(self, action: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["action"] == action]

    def ctl(self, *args: str) -> str:
        return ctl(*args, env={"CONTROLLER_TOKENS_FILE": str(self.tokens_file)}).out


@pytest.fixture
def audited(serve: Serve, tmp_path: Path) -> Audited:
    tokens_file = tmp_path / "tokens.toml"
    env = {"CONTROLLER_TOKENS_FILE": str(tokens_file)}
    roles = {"anna": "operator", "gpu": "worker"}
    tokens = {
        name: json.loads(ctl("token", "create", name, "--role", role, "-o", "json", env=env).out)["token"]
        for name, role in roles.items()
    }
    served = serve("--auth", "enforce", "--audit-log-file", "audit.jsonl", env=env)
    return Audited(served, tmp_path / "audit.jsonl", tokens_file, tokens)


def test_each_change_by_an_operator_has_a_line_and_nothing_else_has_one(audited: Audited) -> None:
    audited.send("gpu", "POST", "/controller/models", json=INSTANCE)
    audited.send("gpu", "POST", "/controller/heartbeat", json=INSTANCE)
    audited.send("anna", "GET", "/controller/models")
    audited.send("anna", "GET", "/v1/auth")
    audited.send("anna", "POST", "/controller/heartbeat", json=INSTANCE)
    assert [line["action"] for line in audited.lines] == ["start"]
    drain = {**INSTANCE, "reason": "new disk", "for_secs": 3600}
    assert audited.send("anna", "POST", "/v1/drain", json=drain, headers={"X-Request-ID": "abc-1"}).is_success
    assert audited.send("anna", "POST", "/v1/undrain", json=INSTANCE).is_success
    assert audited.send("anna", "POST", "/v1/register", json={**INSTANCE, "port": 8002, "drain": {}}).is_success
    assert audited.send("anna", "POST", "/controller/models", json=INSTANCE).is_success
    assert audited.send("anna", "DELETE", "/controller/models", params=IDENTITY).is_success
    assert audited.send("anna", "POST", "/v1/prune", json={"older_than_secs": 0.001, "dry_run": True}).is_success
    assert audited.send("anna", "POST", "/v1/prune", json={"older_than_secs": 0.001}).is_success
    assert audited.served.process.terminate() == 0
    lines = audited.lines
    assert [line["action"] for line in lines] == [
        *("start", "drain", "undrain", "register", "register", "deregister", "prune", "stop")
    ]
    assert {line["outcome"] for line in lines} == {"done"}
    who = {"actor_name": "anna", "role": "operator", "address": "127.0.0.1", "label": "label-of-anna"}
    assert all(line[name] == value for line in lines[1:-1] for name, value in who.items())
    drain_line = lines[1]
    assert (drain_line["request_id"], drain_line["model_name"], drain_line["instance"]) == (
        *("abc-1", "qwen3@llm", REFERENCE),
    )
    assert drain_line["before"] == {"state": "healthy", "drained": False}
    until_time = drain_line["after"].pop("until")
    assert drain_line["after"] == {"state": "healthy", "drained": True, "reason": "new disk"}
    assert until_time > drain_line["time"]
    assert lines[2]["before"]["drained"]
    assert not lines[2]["after"]["drained"]
    assert (lines[3]["before"]["state"], lines[3]["after"]["drained"]) == ("absent", True)
    assert (lines[5]["before"]["state"], lines[5]["after"]["state"]) == ("healthy", "deregistered")
    assert lines[6]["removed"] == {"count": 1, "names": [REFERENCE]}


def test_what_fails_has_a_line_with_the_error(audited: Audited) -> None:
    audited.send("anna", "POST", "/v1/drain", json=INSTANCE)
    audited.send("anna", "POST", "/v1/undrain", json={**INSTANCE, "port": "x"})
    unknown, wrong = audited.lines[1:]
    assert (unknown["outcome"], unknown["error"], unknown["instance"]) == ("failed", "not_found", REFERENCE)
    assert "is not known" in unknown["detail"]
    assert (wrong["action"], wrong["outcome"], wrong["error"]) == ("undrain", "failed", "invalid_instance")


def test_refused_attempts_at_operators_routes_have_lines_up_to_a_limit(audited: Audited) -> None:
    audited.send("gpu", "POST", "/v1/drain", json=INSTANCE)
    audited.send(None, "GET", "/v1/auth", headers={"User-Agent": f"x {audited.tokens['anna']} \xe9".encode("latin-1")})
    audited.send("anna", "POST", "/v1/prune", json={}, headers={"Origin": "http://evil.example"})
    for _ in range(MAX_STRANGERS_LINES):
        audited.send(None, "POST", "/v1/undrain", json=INSTANCE)
    audited.send(None, "POST", "/controller/models", json=INSTANCE)
    audited.send(None, "GET", "/v1/status")
    role, none, origin, *others = audited.lines[1:]
    assert (role["action"], role["outcome"], role["reason"]) == ("drain", "refused", "role")
    assert (role["actor_name"], role["role"], role["label"]) == ("gpu", "worker", "label-of-gpu")
    assert (none["action"], none["reason"], none["actor_name"], none["role"]) == ("auth", "none", None, None)
    assert none["user_agent"] == "x ******** \\xe9"
    assert (origin["action"], origin["outcome"], origin["reason"]) == ("prune", "refused", "foreign_origin")
    assert len(others) == MAX_STRANGERS_LINES - 2
    assert {line["action"] for line in others} == {"undrain"}
    audited.served.process.terminate()
    assert [line["count"] for line in audited.about("summary")] == [2]


def test_what_a_page_changes_or_may_not_change_has_a_line_with_its_token(audited: Audited) -> None:
    audited.send("gpu", "POST", "/controller/models", json=INSTANCE)
    origin = {"Origin": audited.served.url}
    signed_in = audited.send(None, "POST", "/v1/session", json={"token": audited.tokens["anna"]}, headers=origin)
    cookie = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    assert audited.send(None, "POST", "/v1/drain", json=INSTANCE, headers=origin | cookie).is_success
    assert audited.send(None, "POST", "/v1/drain", json=INSTANCE, headers=cookie).status_code == 403
    drained, foreign = audited.about("drain")
    who = {"actor": "operator", "actor_name": "anna", "role": "operator", "address": "127.0.0.1"}
    assert drained.items() >= who.items()
    assert (foreign["outcome"], foreign["reason"], foreign["actor_name"]) == ("refused", "foreign_origin", None)
    text = audited.file.read_text(encoding="utf-8")
    assert audited.tokens["anna"] not in text
    assert cookie["Cookie"].partition("=")[2] not in text


def test_strangers_cannot_hide_what_somebody_tries_with_a_token(audited: Audited) -> None:
    for _ in range(MAX_STRANGERS_LINES + 1):
        audited.send(None, "POST", "/v1/drain", json=INSTANCE)
    for _ in range(MAX_STRANGERS_LINES + 1):
        audited.send("gpu", "POST", "/v1/prune", json={})
    assert [line["actor_name"] for line in audited.about("drain")] == [None] * MAX_STRANGERS_LINES
    assert [line["actor_name"] for line in audited.about("prune")] == ["gpu"] * MAX_STRANGERS_LINES


def test_a_token_that_somebody_sends_in_a_text_is_in_no_line(audited: Audited) -> None:
    token = audited.tokens["anna"]
    audited.send("gpu", "POST", "/controller/models", json=INSTANCE)
    assert audited.send("anna", "POST", "/v1/drain", json={**INSTANCE, "reason": f"x {token}"}).is_success
    audited.send("anna", "POST", "/v1/drain", json={**INSTANCE, "reason": f"{token}\n"})
    audited.send("anna", "POST", "/v1/drain", json={**INSTANCE, "port": token})
    audited.send(None, "POST", "/v1/drain", json=INSTANCE, headers={"Origin": f"http://{token}"})
    assert audited.about("drain")[0]["after"]["reason"] == "x ********"
    assert len(audited.about("drain")) == 4
    assert token[5:30] not in audited.file.read_text(encoding="utf-8")


def test_a_heartbeat_by_which_an_operator_registers_an_instance_has_a_line(audited: Audited) -> None:
    for _ in range(2):
        assert audited.send("anna", "POST", "/controller/heartbeat", json=INSTANCE).json() is True
    (line,) = audited.about("heartbeat")
    assert (line["outcome"], line["actor_name"], line["instance"]) == ("done", "anna", REFERENCE)
    assert (line["before"]["state"], line["after"]["state"]) == ("absent", "healthy")
    audited.send("anna", "DELETE", "/controller/models", params=IDENTITY)
    assert audited.send("anna", "POST", "/controller/heartbeat", json=INSTANCE).json() is False
    assert audited.send("anna", "POST", "/controller/heartbeat", json={}).status_code == 422
    assert audited.about("heartbeat") == [line]


def test_tokens_and_modes_that_change_have_lines_without_a_secret(audited: Audited) -> None:
    audited.ctl("token", "rotate", "gpu")
    until("read_tokens", lambda: audited.about("read_tokens"), audited.served.process)
    audited.ctl("auth", "mode", "log")
    until("change_mode", lambda: audited.about("change_mode"), audited.served.process)
    (tokens,) = audited.about("read_tokens")
    assert tokens["changed"] == {"count": 1, "names": ["gpu"]}
    (mode,) = audited.about("change_mode")
    assert (mode["before"], mode["after"]) == ({"mode": "enforce"}, {"mode": "log"})
    audited.send(None, "POST", "/v1/drain", json=INSTANCE)
    (served,) = audited.about("drain")
    assert (served["outcome"], served["error"], served["actor_name"]) == ("failed", "not_found", None)


def test_logrotate_may_move_the_file_and_a_full_disk_fails_no_request(audited: Audited) -> None:
    moved, served = audited.file.with_name("audit.jsonl.1"), audited.served
    audited.file.rename(moved)
    audited.send("anna", "POST", "/controller/models", json=INSTANCE)
    assert [line["action"] for line in audited.lines] == ["register"]
    audited.file.unlink()
    audited.file.symlink_to("/dev/full")
    for _ in range(2):
        assert audited.send("anna", "POST", "/v1/drain", json=INSTANCE).status_code == 200
    reason = audited.send("anna", "GET", "/health").json()["reason"]
    assert reason.startswith(f"audit log {audited.file.name} cannot be written since ")
    assert "No space left on device" in reason
    audited.file.unlink()
    until("line", lambda: audited.file.exists() and audited.lines, served.process)
    assert [(line["action"], line["count"]) for line in audited.lines] == [("lines_missing", 2)]
    assert "reason" not in audited.send("anna", "GET", "/health").json()
    log = served.process.log.read_text()
    assert log.count("cannot be written") == 1
    assert log.count("can be written again; 2 lines are missing") == 1


def test_a_certificate_that_is_replaced_has_a_line(serve: Serve, tmp_path: Path) -> None:
    tls, file = authority(tmp_path / "tls"), tmp_path / "audit.jsonl"
    served = serve("--audit-log-file", file.name, "--tls-port", str(free_port()), *tls.flags)
    tls.write(tls.issue())
    until("line", lambda: "replace_certificate" in file.read_text(), served.process)
    line = json.loads(file.read_text().splitlines()[1])
    assert line["after"]["not_after"] > line["time"]


def test_without_authentication_a_claim_to_be_an_operator_counts(serve: Serve, tmp_path: Path) -> None:
    served = serve("--audit-log-file", "audit.jsonl")
    for headers in ({}, {"X-Ctl-Actor": "operator"}):
        httpx.post(f"{served.url}/api/controller/models", json=INSTANCE, headers=headers)
    _, register = map(json.loads, (tmp_path / "audit.jsonl").read_text().splitlines())
    assert (register["action"], register["actor"], register["actor_name"]) == ("register", "operator", None)
    assert "request_id" in register


def test_a_foreign_application_has_an_audit_log_too(tmp_path: Path) -> None:
    app, file = FastAPI(), tmp_path / "audit.jsonl"
    registry = EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT)
    initialize_controller(app, registry=registry, settings=ControllerSettings(audit_log_file=str(file)))
    with running_app(app) as url:
        httpx.post(f"{url}/api/v1/drain", json=INSTANCE)
        httpx.post(f"{url}/api/v1/drain", json=INSTANCE, headers={"Origin": "http://evil.example"})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["action"], line["outcome"]) for line in lines] == [
        ("start", "done"),
        ("drain", "failed"),
        ("drain", "refused"),
        ("stop", "done"),
    ]
