"""A token goes only to the address that it was given for (rule 15), whatever a hostile controller answers."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL

from dbgpt_ctl.client.sync import ControllerClient
from dbgpt_ctl.domain.controllers import ControllerIdentity
from dbgpt_ctl.domain.fields import parse_registration
from dbgpt_ctl.registry.database.registry import DatabaseModelRegistry
from tests.support.dbgpt_process import until
from tests.support.fake_controller import fake_controller
from tests.support.process import ROOT, ctl
from tests.support.server import running_controller
from tests.support.stranger import Stranger, stranger_listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.hostile.conftest import Serve

SECRET = "s3cr3t-of-the-user"
SENT = b"Basic " + b64encode(f"ctl:{SECRET}".encode())
TOKEN = {"CTL_TOKEN": SECRET}
NOBODY = "http://127.0.0.1:1"
BRIEF = ["--request-timeout", "2s"]


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    with stranger_listening() as listening:
        yield listening


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_does_not_lead_the_token_away(stranger: Stranger, status: int) -> None:
    moved = {"Location": f"{stranger.url}/api/controller/models"}
    with fake_controller(status=status, body={}, headers=moved) as fake:
        env = TOKEN | {"CONTROLLER_ADDRESS": fake.url}
        for command in (["models", "list"], ["models", "register", "q/h:1"], ["status"], ["health"], ["doctor"]):
            assert SECRET not in ctl(*command, env=env, expect=None).err
        ctl("models", "get", "", env={**env, "_CTL_COMPLETE": "complete_zsh"})
        assert fake.requests
    assert stranger.connections == 0


def test_another_controller_that_a_controller_reports_is_not_called(stranger: Stranger, tmp_path: Path) -> None:
    def registry(name: str, address: str) -> DatabaseModelRegistry:
        return DatabaseModelRegistry(
            URL.create("sqlite", database=str(tmp_path / "ctl.db")),
            heartbeat_timeout=timedelta(seconds=60),
            watch_absence=True,
            identity=ControllerIdentity(name, "0.1.0", address),
        )

    with (
        running_controller(registry("one", "http://one:8000")) as url,
        running_controller(registry("two", stranger.url)),
        ControllerClient(url) as client,
    ):
        client.register(parse_registration({"model_name": "q@llm", "host": "10.0.0.4", "port": 8001}))
        until("both", lambda: len(client.status().controllers) == 2)
        for command in (["status"], ["health"], ["doctor", "--no-probe"], ["why", "q", "--no-probe"]):
            ctl(*command, env=TOKEN | {"CONTROLLER_ADDRESS": url}, expect=None)
    assert stranger.connections == 0


def test_a_probe_of_a_worker_carries_no_token(stranger: Stranger, serve: Serve) -> None:
    env = TOKEN | {"CONTROLLER_ADDRESS": serve().url}
    ctl("models", "register", f"q/127.0.0.1:{stranger.port}", env=env)
    for command in (["why", "q"], ["doctor"]):
        ctl(*command, env=env, expect=None)
    until("the probes", lambda: len(stranger.heard) >= 2)
    assert all(heard.startswith(b"GET /api/worker/parameter/descriptions ") for heard in stranger.heard)
    assert all(b"uthorization" not in heard for heard in stranger.heard)


def test_a_token_meant_for_tls_is_not_sent_in_plain_text(stranger: Stranger) -> None:
    env = TOKEN | {"CONTROLLER_ADDRESS": f"https://127.0.0.1:{stranger.port}"}
    ctl("models", "list", *BRIEF, env=env, expect=3)
    plain = until("the look", lambda: [heard for heard in stranger.heard if heard.startswith(b"GET ")])
    assert all(SENT not in heard for heard in plain)


def test_the_token_of_one_address_is_not_sent_to_another(stranger: Stranger) -> None:
    env = TOKEN | {"CONTROLLER_ADDRESS": NOBODY}
    done = ctl("models", "list", "-a", stranger.url, *BRIEF, env=env, expect=3)
    ctl("models", "list", "-a", stranger.url, "", env={**env, "_CTL_COMPLETE": "complete_zsh"})
    until("both calls", lambda: len(stranger.heard) >= 2)
    assert all(SENT not in heard for heard in stranger.heard)
    assert done.err.splitlines()[0] == (
        f"ctl: warning: CTL_TOKEN is not sent to {stranger.url}: it belongs to CONTROLLER_ADDRESS, which is set too; "
        "to send it, unset CONTROLLER_ADDRESS"
    )


def test_the_token_is_sent_to_the_address_that_it_was_given_for(stranger: Stranger) -> None:
    for args, env in (([], {"CONTROLLER_ADDRESS": stranger.url}), (["-a", stranger.url], {})):
        stranger.heard.clear()
        ctl("models", "list", *args, *BRIEF, env=TOKEN | env, expect=3)
        until("a call", lambda: stranger.heard)
        assert SENT in stranger.heard[0]


IN_PLAIN_TEXT = "in plain text, and who reads the traffic can use it: write https://"


def test_a_token_in_plain_text_is_warned_of_once(tmp_path: Path) -> None:
    """Of every command, also of one that asks again and again; the name is never looked up, as it is none."""
    env = TOKEN | {"CONTROLLER_ADDRESS": "http://ctl.invalid:8000"}
    wait = ("wait", "qwen", "--timeout", "300ms", "--every", "100ms")
    for command in (("models", "list"), ("status",), ("doctor", "--no-probe"), wait):
        done = ctl(*command, *BRIEF, env=env, expect=3)
        assert done.err.count(IN_PLAIN_TEXT) == 1
        assert done.err.startswith(f"ctl: warning: a token goes to http://ctl.invalid:8000 {IN_PLAIN_TEXT}\n")
        assert IN_PLAIN_TEXT not in ctl(*command, *BRIEF, "-q", env=env, expect=3).err
    forwarding = ("--remote-addr", "http://ctl.invalid:8000", "--remote-token-file", str(tmp_path / "token"))
    assert ctl("serve", "--show-config", *forwarding).err.count(IN_PLAIN_TEXT) == 1


def test_a_token_in_a_flag_is_warned_of(stranger: Stranger) -> None:
    """Whoever may list the processes of this machine sees the flags of each."""
    done = ctl("models", "list", "-a", stranger.url.replace("://", f"://me:{SECRET}@"), *BRIEF, expect=3)
    assert done.err.startswith("ctl: warning: other users of this machine can read the token of --address ")
    assert SECRET not in done.err


LOGGED = """
import logging, sys, traceback
from dbgpt_ctl import AsyncControllerClient, ControllerClient
from dbgpt_ctl.settings.schema import ClientSettings
logging.basicConfig(level=0, stream=sys.stdout)
for call in ("list", "status", "health"):
    client = ControllerClient(sys.argv[1], timeout=2)
    print(repr(client), vars(client), client._calls, client._transport._client.headers)
    try:
        getattr(client, call)()
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        print(repr(error), error.args, vars(error))
    client.close()
print(vars(AsyncControllerClient(sys.argv[1])), ClientSettings(address=sys.argv[1]))
"""


@pytest.mark.parametrize("answers", [True, False])
def test_no_log_and_no_text_of_an_object_holds_the_token(answers: bool) -> None:
    """Also at the lowest level of the logs of httpx and httpcore."""
    with fake_controller(status=401 if answers else 500, body={"detail": "no"}) as fake:
        url = fake.url if answers else NOBODY
        argv = [sys.executable, "-c", LOGGED, url.replace("://", f"://ctl:{SECRET}@")]
        done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "httpcore" in done.stdout
    assert "DEBUG" in done.stdout
    for secret in (SECRET, SENT.decode(), SENT.decode().removeprefix("Basic ")):
        assert secret not in done.stdout + done.stderr
