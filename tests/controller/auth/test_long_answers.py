"""Watches end when the caller's token is not valid any more: over `ctl serve` as a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dbgpt_ctl.auth.editing import create_token, revoke_token, set_mode
from dbgpt_ctl.auth.tokens import Mode, Reason, Role, Token, new_token, sha256_of
from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.controller.auth import long_answers
from dbgpt_ctl.controller.auth.long_answers import LongAnswers
from dbgpt_ctl.domain.instance import InstanceKey, Registration
from dbgpt_ctl.errors import NotAllowed, NotAuthenticated
from tests.support.process import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROMPTLY_SECS = 20.0
"""A stream that goes on is noticed after this time. It ends within two seconds on a machine with nothing else to do."""


class Served:
    """A controller, its tokens file, and a token that the test may end."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path
        self.token = new_token(os.urandom)
        create_token(path, Token("leaving", Role.READER, (sha256_of(self.token),)))

    def client(self, token: str) -> ControllerClient:
        return ControllerClient(self.url.replace("//", f"//:{token}@"), timeout=30)


@contextmanager
def served(folder: Path, mode: Mode) -> Iterator[Served]:
    """`ctl serve` with a tokens file in this mode."""
    path = folder / "tokens.toml"
    create_token(path, Token("first", Role.OPERATOR, (sha256_of("operator"),)))
    set_mode(path, mode)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with start("serve", "--port", str(port), "--tokens-file", str(path), stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: httpx.get(f"{url}/api/health").status_code == 200)
            yield Served(url, path)
        finally:
            process.terminate()


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if holds():
                return
        time.sleep(0.05)
    pytest.fail("it did not come true")


def known(served: Served, token: str) -> bool:
    """Whether the controller has read the file with this token."""
    return httpx.get(f"{served.url}/api/v1/status", auth=("", token)).status_code == 200


def end_of_watch(served: Served, token: str, end: Callable[[], Any]) -> NotAllowed:
    """What the watcher gets after `end`; it has got `ready` before."""
    with served.client(token) as client:
        watch = client.watch()
        assert next(watch).kind == "ready"
        end()
        began = time.monotonic()
        with pytest.raises(NotAllowed) as refused:
            next(watch)
        assert time.monotonic() - began < PROMPTLY_SECS
    return refused.value


def test_a_revoked_token_ends_its_watch_with_the_reason(tmp_path: Path) -> None:
    with served(tmp_path, Mode.ENFORCE) as there:
        wait_until(partial(known, there, there.token))
        with there.client("operator") as other:
            watch = other.watch()
            assert next(watch).kind == "ready"
            error = end_of_watch(there, there.token, lambda: revoke_token(there.path, "leaving", only_old=False))
            assert "token leaving is revoked" in error.detail
            other.register(Registration(InstanceKey("a@llm", "127.0.0.1", 1)))
            assert next(watch).kind == "change"
        assert all(
            row.reason != "revoked" for row in report_of(there).refusals.rows
        )  # to end an answer refuses no request


def test_a_revoked_token_ends_the_watch_of_a_page_that_is_signed_in_with_it(tmp_path: Path) -> None:
    with served(tmp_path, Mode.ENFORCE) as there:
        wait_until(partial(known, there, there.token))
        with httpx.Client(base_url=there.url, trust_env=False, timeout=PROMPTLY_SECS) as page:
            page.post("/api/v1/session", json={"token": there.token}).raise_for_status()
            with page.stream("GET", "/api/v1/watch") as watch:
                lines = watch.iter_lines()
                assert "event: ready" in iter(lines.__next__, "")
                revoke_token(there.path, "leaving", only_old=False)
                last = [line for line in lines if line]
            assert last[-2] == "event: refused"
            assert "token leaving is revoked" in last[-1]
            who = page.get("/api/v1/session").json()
            assert (who["may_read"], who["read_only_reason"]) == (
                *(False, "token leaving is revoked: sign in with another one"),
            )


def test_a_token_that_expires_or_loses_its_role_ends_its_watch(tmp_path: Path) -> None:
    with served(tmp_path, Mode.ENFORCE) as there:
        wait_until(partial(known, there, there.token))

        def lose_role() -> None:
            text = there.path.read_text().replace('role = "reader"', 'role = "metrics"')
            there.path.write_text(text)

        assert "token leaving has the role metrics" in end_of_watch(there, there.token, lose_role).detail
        short = new_token(os.urandom)
        create_token(there.path, Token("short", Role.READER, (sha256_of(short),), expires=soon()))
        wait_until(partial(known, there, short))
        assert "token short expired" in end_of_watch(there, short, lambda: None).detail


def test_the_change_to_enforce_ends_what_log_mode_let_in(tmp_path: Path) -> None:
    with served(tmp_path, Mode.LOG) as there:
        wait_until(partial(known, there, there.token))
        with there.client("operator") as valid:
            kept = valid.watch()
            assert next(kept).kind == "ready"
            with ControllerClient(there.url, timeout=30) as nobody:
                watch = nobody.watch()
                assert next(watch).kind == "ready"
                revoke_token(there.path, "leaving", only_old=False)
                wait_until(lambda: {each.name: each.valid for each in report_of(there).tokens}.get("leaving") == 0)
                nobody.register(Registration(InstanceKey("a@llm", "127.0.0.1", 1)))
                assert (next(watch).kind, next(kept).kind) == ("change", "change")  # log mode ends nothing
                set_mode(there.path, Mode.ENFORCE)
                with pytest.raises(NotAllowed, match="no token came"):
                    next(watch)
            valid.register(Registration(InstanceKey("b@llm", "127.0.0.1", 1)))
            assert next(kept).kind == "change"


def test_a_peer_that_does_not_take_the_last_message_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_answers, "GRACE_SECS", 0.01)
    refused = NotAuthenticated(Reason.REVOKED, "it is revoked")
    ended: list[Exception] = []
    stalled, kept = {"path": "/a"}, {"path": "/b"}

    async def scenario() -> None:
        dropped = asyncio.Queue[Any]()
        answers = LongAnswers(lambda scope: refused if scope["path"] == "/a" else None, dropped.put_nowait)
        with answers.sent(stalled, ended.append):
            pass  # this one ends in time
        with answers.sent(kept, ended.append), answers.sent(stalled, ended.append):
            answers.examine()
            assert await dropped.get() == [stalled]
        assert dropped.empty()

    asyncio.run(scenario())
    assert ended == [refused, refused]  # each once, also where it was so when the answer began


def report_of(there: Served) -> Any:
    with there.client("operator") as client:
        return client.auth()


def soon() -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
