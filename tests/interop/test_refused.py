"""A controller in enforce mode and real processes of DB-GPT whose token is missing, or may not do what they do.

None of them gets in. The log of each holds the controller's line, which says what to write where.
"""

from __future__ import annotations

import subprocess
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.chats import chat
from tests.support.dbgpt_cluster import Controller, Lab, Worker, reference, start_api_server, start_worker
from tests.support.dbgpt_openai import MODEL
from tests.support.dbgpt_process import get, until
from tests.support.ports import free_port
from tests.support.token_file import LabTokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt import Release
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop


@dataclass
class Guarded:
    """A controller in enforce mode and a worker that it knows."""

    lab: Lab
    release: Release
    openai: FakeOpenAI
    tokens: LabTokens
    controller: Controller
    worker: Worker

    def address(self, token: str = "") -> str:
        """The controller's address, with the token of this name if there is one."""
        return (
            self.controller.url.replace("//", f"//{self.tokens.credentials(token)}@") if token else self.controller.url
        )

    def instances(self) -> dict[str, dict[str, Any]]:
        """The listed instances by reference."""
        listed = get(f"{self.address('reader')}/api/controller/models")
        assert listed is not None
        return {reference(instance): instance for instance in listed}

    def ctl(self, *args: str) -> str:
        variables = {"CONTROLLER_ADDRESS": self.address(), "CTL_TOKEN": self.tokens.credentials("operator")}
        done = self.lab.ctl(*args, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def guarded(release: Release, new_lab: NewLab, openai: FakeOpenAI) -> Iterator[Guarded]:
    with new_lab("refused") as lab:
        tokens = LabTokens(lab)
        tokens.create("worker", "worker", "--models", f"{MODEL}@llm", "--hosts", "127.0.0.0/8")
        tokens.create("reader", "reader")
        tokens.create("operator", "operator")
        tokens.create("other-models", "worker", "--models", "qwen*@llm")
        tokens.create("other-hosts", "worker", "--hosts", "10.0.0.0/8")
        tokens.set_mode("enforce")
        controller = Controller(lab, "sqlite", flags=["--tokens-file", str(tokens.path)]).start()
        address = controller.url.replace("//", f"//{tokens.credentials('worker')}@")
        guarded = Guarded(lab, release, openai, tokens, controller, start_worker(lab, release, address, openai.base))
        worker = guarded.worker
        until("worker", lambda: guarded.instances().get(worker.service), controller.process, worker.process)
        yield guarded


REFUSED = {
    "": "no token came with this request: write one into controller_addr",
    "reader": "token reader has the role reader, and this needs worker: write such a token into controller_addr",
    "other-models": (
        f"token other-models is for the models 'qwen*@llm', not for '{MODEL}@llm': write another token into "
        "controller_addr, or add it to models of [token.other-models] in the tokens file"
    ),
    "other-hosts": (
        "token other-hosts is for the hosts '10.0.0.0/8', not for '127.0.0.1': correct worker_register_host, or add "
        "it to hosts of [token.other-hosts] in the tokens file"
    ),
}
"""By token of a worker: what stands in its log."""


@pytest.mark.parametrize("token", REFUSED)
def test_a_worker_is_refused_and_its_log_says_why(guarded: Guarded, token: str) -> None:
    """It deregisters what it could not register. That must not end the instance of that key, which lives.

    The type service is exempt from the models of a token, so a token for other models may end that instance.
    """
    port = free_port()
    keys = [f"{MODEL}@llm/127.0.0.1:{port}", f"WorkerManager@service/127.0.0.1:{port}"]
    guarded.ctl("models", "register", *keys)
    before = guarded.instances()
    name = f"worker-{token or 'none'}"
    worker = start_worker(guarded.lab, guarded.release, guarded.address(token), guarded.openai.base, name, port=port)
    assert worker.process.popen.wait(60) == 0
    after = guarded.instances()
    guarded.ctl("models", "deregister", *keys, "--remove")
    untouched = keys[:1] if token == "other-models" else keys
    assert [after[key] for key in untouched] == [before[key] for key in untouched]
    assert REFUSED[token] in worker.process.log.read_text(encoding="utf-8"), worker.process.tail()


def test_an_api_server_without_a_token_says_why_in_its_log(guarded: Guarded) -> None:
    server, api = start_api_server(guarded.lab, guarded.release, guarded.address(), "apiserver-none")
    until("API server", lambda: listens(api), server)
    assert "500" in (chat(api, "anybody there?") or "")
    until("reason in the log", lambda: REFUSED[""] in server.log.read_text(encoding="utf-8"), server)


def test_an_api_server_with_a_readers_token_chats(guarded: Guarded) -> None:
    """Its health checks come with the credentials of ~/.netrc, which the library requests prefers. They get 200."""
    home = guarded.lab.folder / "home"
    home.mkdir()
    netrc = home / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password wrong\n")
    netrc.chmod(0o600)
    env = {"HOME": str(home)}
    asked = subprocess.run(
        [guarded.release.python, "-c", ASK_HEALTH, f"{guarded.address('reader')}/api/health"],
        env=guarded.lab.env(**env),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    assert asked.stdout.split() == ["200", "Basic", b64encode(b"somebody:wrong").decode()]

    server, api = start_api_server(guarded.lab, guarded.release, guarded.address("reader"), env=env)
    until("API server", lambda: get(f"{api}/models"), server)
    assert chat(api, "how are you?") is None
    assert NO_HEALTHY_ADDRESS not in server.log.read_text(encoding="utf-8")


ASK_HEALTH = """
import requests, sys
answer = requests.get(sys.argv[1], timeout=10)
print(answer.status_code, answer.request.headers["Authorization"])
"""
NO_HEALTHY_ADDRESS = "No healthy urls found"
"""What DB-GPT logs when it calls a controller whose health check failed."""


def test_dbgpt_model_list_needs_a_readers_token(guarded: Guarded) -> None:
    listed = guarded.lab.dbgpt(guarded.release, guarded.address("reader"), "model", "list")
    assert (listed.returncode, str(guarded.worker.port) in listed.stdout) == (0, True), listed.stderr
    refused = guarded.lab.dbgpt(guarded.release, guarded.address(), "model", "list")
    assert (refused.returncode, REFUSED[""] in refused.stdout + refused.stderr) == (1, True)
    assert str(guarded.worker.port) not in refused.stdout


def listens(api: str) -> bool:
    """Whether a server answers there, whatever it answers."""
    try:
        httpx.get(api, trust_env=False, timeout=5)
    except httpx.TransportError:
        return False
    return True
