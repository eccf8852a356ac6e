"""A token that is revoked or used up while a request is under way, at a real controller."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.controller.conftest import TIMEOUT
from tests.support.dbgpt_process import until
from tests.support.server import running_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

MODELS, HEARTBEAT = "/api/controller/models", "/api/controller/heartbeat"
KEY: dict[str, Any] = {"model_name": "q@llm", "host": "127.0.0.1", "port": 8001}
ROLES = {"worker": "max_instances = 1", "operator": ""}


def write(path: Path, *names: str) -> None:
    draft = path.with_suffix(".draft")
    draft.touch(0o600)
    draft.write_text(
        'mode = "enforce"\n'
        + "".join(f'[token.{name}]\nrole = "{name}"\nsha256 = ["{sha256_of(name)}"]\n{ROLES[name]}\n' for name in names)
    )
    draft.replace(path)


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    write(path, *ROLES)
    return path


@pytest.fixture
def app(tokens_file: Path) -> FastAPI:
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=TIMEOUT, max_instances=3)
    return create_app(ControllerSettings(tokens_file=str(tokens_file)), registry)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    with running_app(app) as url:
        yield url


def client(url: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=url, auth=("x", token), trust_env=False)


LATE: dict[str, tuple[str, dict[str, Any]]] = {"worker": (MODELS, {}), "operator": ("/api/v1/register", {"drain": {}})}


@pytest.mark.parametrize("token", LATE)
def test_a_request_whose_body_comes_after_the_revoke_is_refused(
    url: str, app: FastAPI, tokens_file: Path, token: str
) -> None:
    path, further = LATE[token]
    body = orjson.dumps(KEY | further)
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0)) as sock:
        sock.settimeout(10)
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body[:-1]
        )
        access = app.state.controller.access
        until(
            "the check of the head",
            lambda: access.identities[sha256_of(token)].uses or access.last_use.of(sha256_of(token)),
        )
        write(tokens_file, *(name for name in ROLES if name != token))
        until("the revoke", lambda: sha256_of(token) not in access.identities)
        sock.sendall(body[-1:])
        assert sock.recv(4096).startswith(b"HTTP/1.1 401 ")
    assert asyncio.run(app.state.controller.registry.list()).entries == ()


def test_heartbeats_of_a_deregistered_instance_take_no_place_of_its_replacement(url: str) -> None:
    """An operator takes out a worker that hangs, which goes on with its heartbeats."""
    with client(url, "worker") as worker, client(url, "operator") as operator:
        assert worker.post(MODELS, json=KEY).content == b"true"
        assert operator.delete(MODELS, params=KEY).content == b"true"
        assert worker.post(HEARTBEAT, json=KEY).content == b"false"
        assert worker.post(MODELS, json=KEY | {"port": 8002}).content == b"true"
        assert worker.post(HEARTBEAT, json=KEY | {"port": 8002}).content == b"true"
        assert worker.post(MODELS, json=KEY | {"port": 8003}).status_code == 403
