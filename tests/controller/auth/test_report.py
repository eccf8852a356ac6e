"""GET /api/v1/auth of a real controller, whose answers are validated against the OpenAPI document."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.auth.editing import create_token, rotate_token, set_mode
from dbgpt_ctl.auth.tokens import Mode, Role, Token, new_token, sha256_of
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.auth.report import token_use
from dbgpt_ctl.controller.auth.tokens_in_force import LastUse
from dbgpt_ctl.controller.http.callers import InstanceCount, ValidToken
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import NotAllowed
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from tests.support.server import running_controller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRETS = {name: new_token(os.urandom) for name in ("operator", "reader", "worker", "newer")}
MINE, OTHER = InstanceKey("mine@llm", "127.0.0.1", 1), InstanceKey("other@llm", "127.0.0.1", 1)
HOSTILE_AGENT = "x\x9b2J [red] " + SECRETS["worker"]


@contextmanager
def serving(folder: Path, mode: Mode) -> Iterator[str]:
    """The URL of a controller with three tokens, of which `worker` is rotated."""
    path = folder / "tokens.toml"
    for role in (Role.OPERATOR, Role.READER, Role.WORKER):
        models = ("mine@*",) if role is Role.WORKER else ()
        create_token(path, Token(role.value, role, (sha256_of(SECRETS[role]),), models=models))
    rotate_token(path, "worker", sha256_of(SECRETS["newer"]), None, datetime.now(UTC))
    set_mode(path, mode)
    registry = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with running_controller(registry, tokens_file=str(path)) as url:
        yield url


def client(url: str, name: str | None, *, label: str = "") -> ControllerClient:
    return ControllerClient(url if name is None else url.replace("//", f"//{label}:{SECRETS[name]}@"), timeout=30)


def rows(url: str) -> list[tuple[Any, ...]]:
    """What is counted of each row but the times and the user agent."""
    with client(url, "operator") as operator:
        report = operator.auth()
    return sorted(
        (
            (row.reason, row.label, row.token, row.request, row.key, row.count, row.served)
            for row in report.refusals.rows
        ),
        key=str,
    )


def test_log_mode_serves_all_and_counts_who_has_to_be_given_a_token(tmp_path: Path) -> None:
    with serving(tmp_path, Mode.LOG) as url:
        with client(url, None) as nobody:
            for _ in range(3):
                nobody.heartbeat(Registration(MINE))
            nobody.list()
            nobody.status()
        with client(url, "newer", label="w7") as worker:
            worker.register(Registration(MINE))
            worker.register(Registration(OTHER))
        httpx.post(f"{url}/api/controller/models", content=b"{", headers={"Content-Type": "application/json"})
        assert rows(url) == [
            ("models", "w7", "worker", "POST /api/controller/models", OTHER, 1, True),
            ("none", None, None, "GET /api/controller/models", None, 1, True),
            ("none", None, None, "GET /api/v1/status", None, 1, True),
            ("none", None, None, "POST /api/controller/heartbeat", MINE, 3, True),
            ("none", None, None, "POST /api/controller/models", None, 1, True),
        ]


def test_enforce_mode_refuses_and_counts(tmp_path: Path) -> None:
    with serving(tmp_path, Mode.ENFORCE) as url:
        for name, call in ((None, "list"), ("reader", "auth"), ("worker", "auth")):
            with client(url, name) as caller, pytest.raises(NotAllowed):
                getattr(caller, call)()
        with client(url, "newer") as worker, pytest.raises(NotAllowed, match="not for 'other@llm'"):
            worker.register(Registration(OTHER))
        assert rows(url) == [
            ("models", None, "worker", "POST /api/controller/models", OTHER, 1, False),
            ("none", None, None, "GET /api/controller/models", None, 1, False),
            ("role", None, "reader", "GET /api/v1/auth", None, 1, False),
            ("role", None, "worker", "GET /api/v1/auth", None, 1, False),
        ]


def test_the_use_of_each_token_and_of_one_that_was_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, Mode.ENFORCE) as url:
        with client(url, "worker", label="w7") as late:
            late.register(Registration(MINE))
        with client(url, "operator") as operator:
            report = operator.auth()
        assert (report.mode, report.mode_origin, len(report.digest or "")) == ("enforce", "tokens file", 12)
        tokens = {token.name: token for token in report.tokens}
        assert {name: token.valid for name, token in tokens.items()} == {"operator": 1, "reader": 1, "worker": 2}
        assert tokens["worker"].last_used is None
        assert tokens["worker"].models == ["mine@*"]
        assert tokens["reader"].last_used is None
        for time in (tokens["worker"].old_last_used, tokens["operator"].last_used):
            assert time is not None
            assert report.refusals.since <= time <= report.time
        assert [(row.reason, row.label, row.served) for row in report.refusals.rows] == [("old-token", "w7", True)]


def test_a_report_holds_no_secret_and_no_text_that_a_terminal_obeys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, Mode.LOG) as url:
        for auth in (None, (SECRETS["worker"], "x"), ("x", SECRETS["worker"]), (SECRETS["newer"], "")):
            httpx.get(
                f"{url}/api/v1/{SECRETS['reader']}",
                auth=auth,
                headers=[(b"user-agent", HOSTILE_AGENT.encode("latin-1"))],
            )
        text = httpx.get(f"{url}/api/v1/auth", auth=("", SECRETS["operator"])).text
    assert text.isprintable()
    assert r"x\\x9b2J [red] ********" in text
    for place in (text, caplog.text):
        for secret in SECRETS.values():
            assert secret not in place
            assert sha256_of(secret) not in place


def test_in_mode_off_everyone_may_ask(tmp_path: Path) -> None:
    with serving(tmp_path, Mode.OFF) as url, client(url, None) as nobody:
        nobody.heartbeat(Registration(MINE))
        report = nobody.auth()
    assert (report.mode, report.refusals.rows, len(report.tokens)) == ("off", [], 3)


def test_a_token_that_leaked_shows_its_last_use_after_the_revoke() -> None:
    last_use, now = LastUse(), datetime(2026, 1, 2, tzinfo=UTC)
    token = Token("leaked", Role.WORKER, (sha256_of("new"), sha256_of("old")))
    identities = {
        sha256: ValidToken(token, lambda *_: None, InstanceCount(60), is_old=place > 0)
        for place, sha256 in enumerate(token.sha256)
    }
    identities[sha256_of("old")].uses += 1
    last_use.tick(identities, now)
    revoked = replace(token, sha256=(), revoked_sha256=token.sha256)
    assert token_use(revoked, last_use).last_used == now
    assert token_use(replace(revoked, revoked_sha256=()), last_use).last_used is None
