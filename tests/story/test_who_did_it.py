"""Who did it, with tokens: what events, drains, the log and `ctl` say, at one controller and over a forwarding one."""

from __future__ import annotations

import logging
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.registry.remote import RemoteModelRegistry
from tests.controller.conftest import TIMEOUT
from tests.support.clock import ManualClock
from tests.support.process import ctl
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[..., str]

ONE: dict[str, Any] = {"model_name": "qwen@llm", "host": "10.0.0.4", "port": 8001}
ROLES = {"anna": "operator", "gpu": "worker", "api": "reader", "front": "operator", "front-w": "worker"}
CLAIM = {"X-Ctl-Actor": "operator"}
MODELS = "/api/controller/models"
SECRETS = {name: f"dctl_{name:x<43}" for name in ROLES}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a controller in this mode; it knows the tokens of ROLES. `over`: it forwards to that URL."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        "".join(
            f'[token.{name}]\nrole = "{role}"\nsha256 = ["{sha256_of(SECRETS[name])}"]\n'
            for name, role in ROLES.items()
        )
    )
    tokens.chmod(0o600)
    with ExitStack() as stack:

        def started(mode: str, *, over: str | None = None) -> str:
            registry = (
                EmbeddedModelRegistry(clock=ManualClock(), heartbeat_timeout=TIMEOUT)
                if over is None
                else RemoteModelRegistry(over)
            )
            return stack.enter_context(running_controller(registry, auth=mode, tokens_file=str(tokens)))

        yield started


def call(url: str, path: str, token: str | None, *, method: str = "POST", **headers: str) -> httpx.Response:
    auth = None if token is None else httpx.BasicAuth("label", SECRETS[token])
    given: dict[str, Any] = {"params": ONE} if method == "DELETE" else {"json": ONE}
    return httpx.request(method, url + path, auth=auth, headers=headers, trust_env=False, **given)


def events(url: str) -> list[tuple[str, str, str | None]]:
    """Verb, kind and name of the actor of each event."""
    answer = httpx.get(f"{url}/api/v1/events", auth=("", SECRETS["api"]), trust_env=False).json()
    assert {event["address"] for event in answer["events"]} <= {"127.0.0.1"}
    return [(event["verb"], event["actor"], event["actor_name"]) for event in answer["events"]]


def with_token(url: str, name: str) -> str:
    return url.replace("://", f"://:{SECRETS[name]}@")


def test_the_token_names_who_did_it(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    url = start("enforce")
    assert call(url, MODELS, "gpu", **CLAIM).status_code == 200
    assert call(url, "/api/v1/drain", "gpu", **CLAIM).status_code == 403
    drained = call(url, "/api/v1/drain", "anna").json()["instance"]["drain"]
    assert drained["by"] == "anna (127.0.0.1)"
    call(url, MODELS, "anna", method="DELETE", **CLAIM)
    call(url, "/api/controller/heartbeat", "gpu")
    assert events(url) == [
        ("register", "worker", "gpu"),
        ("drain", "operator", "anna"),
        ("deregister", "operator", "anna"),
    ]
    assert "is deregistered, still beating (from gpu (127.0.0.1)): " in caplog.text
    deadline = time.monotonic() + 20
    while "qwen@llm/10.0.0.4:8001 drained by anna (127.0.0.1)" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for secret in SECRETS.values():
        assert secret not in caplog.text


def test_ctl_shows_who_did_it(start: Start) -> None:
    url = start("enforce")
    call(url, MODELS, "gpu")
    call(url, "/api/v1/drain", "anna")
    env = {"CTL_TOKEN": SECRETS["api"], "CONTROLLER_ADDRESS": url}
    shown = ctl("events", env=env).lines
    assert [re.split(r"  +", line)[-1] for line in shown[1:]] == [
        "register by worker gpu (127.0.0.1)",
        "drain by operator anna (127.0.0.1)",
    ]
    assert '"actor_name": "anna"' in ctl("events", "-o", "json", env=env).out
    facts = ctl("models", "get", "qwen/10.0.0.4:8001", env=env).out
    assert re.search(r"drained by +anna \(127\.0\.0\.1\)\n", facts)
    why = ctl("why", "qwen", env=env, expect=None).out
    assert "by anna (127.0.0.1)" in why
    assert ctl("models", "list", "-o", "csv", env=env).out.count("anna (127.0.0.1)") == 1


@pytest.mark.parametrize("mode", ["off", "log"])
def test_without_a_token_a_claim_is_a_label(start: Start, mode: str) -> None:
    url = start(mode)
    call(url, MODELS, None)
    call(url, MODELS, None, method="DELETE", **CLAIM)
    assert call(url, "/api/v1/drain", None).json()["instance"]["drain"]["by"] == "127.0.0.1"
    assert events(url) == [
        ("register", "worker", None),
        ("deregister", "operator", None),
        ("drain", "operator", None),
    ]


def test_in_log_mode_a_valid_token_names_who_did_what_enforce_refuses(start: Start) -> None:
    url = start("log")
    call(url, MODELS, "api", **CLAIM)
    assert call(url, "/api/v1/drain", "gpu", **CLAIM).json()["instance"]["drain"]["by"] == "gpu (127.0.0.1)"
    assert events(url) == [("register", "worker", "api"), ("drain", "worker", "gpu")]


@pytest.mark.parametrize(("token", "kind"), [("front", "operator"), ("front-w", "worker")])
def test_behind_a_forwarding_controller_its_own_token_is_named(start: Start, token: str, kind: str) -> None:
    """What the caller proved to the forwarding controller is not passed on; nor is its token."""
    behind = start("enforce")
    front = start("enforce", over=with_token(behind, token))
    assert call(front, MODELS, "gpu", **CLAIM).status_code == 200
    assert call(front, MODELS, "anna", method="DELETE", **CLAIM).status_code == 200
    assert events(behind) == [("register", "worker", token), ("deregister", kind, token)]
    assert events(front) == events(behind)
