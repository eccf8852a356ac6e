"""A cluster with TLS of a CA of its own and a tokens file, as its users meet it: real processes, no plain HTTP."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.dbgpt_process import Process, until
from tests.support.ports import free_port
from tests.support.process import CTL, Finished, ctl, environment, start
from tests.support.tls import authority

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.tls import Authority

REFERENCE = "qwen@llm/10.0.0.4:8001"


class Cluster:
    """A controller that enforces tokens and serves only https, and the secrets that it may not tell."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.tls: Authority = authority(folder / "tls")
        self.tokens = folder / "tokens.toml"
        self.secrets: list[str] = []
        self.front = self.create("front", "worker")
        self.operator = self.create("night", "operator")
        self.url = f"https://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        behind = ("--no-http", "--tls-port", port, *self.tls.flags, "--tokens-file", str(self.tokens))
        self.behind = self.serve("behind", *behind, "--auth", "enforce", "--log-level", "debug")
        self.wait_until_healthy(self.behind, self.url)

    def create(self, name: str, role: str) -> str:
        """A new token in the tokens file."""
        return self._secret("create", name, "--role", role)

    def rotate(self, name: str) -> str:
        return self._secret("rotate", name)

    def revoke(self, name: str, *options: str) -> None:
        self.ctl("token", "revoke", name, *options, "--tokens-file", str(self.tokens))

    def _secret(self, *args: str) -> str:
        printed = ctl("token", *args, "--tokens-file", str(self.tokens), "-o", "json")
        token: str = json.loads(printed.out)["token"]
        self.secrets += [token, b64encode(f"front:{token}".encode()).decode(), b64encode(token.encode()).decode()[:-4]]
        return token

    def file(self, name: str, token: str) -> str:
        """A file with this token, which only its owner may read."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(token)
        return str(path)

    def serve(self, name: str, *args: str) -> Process:
        process = Process(name, [*CTL, "serve", *args], environment({}), self.folder)
        self._stack.callback(process.kill)
        return process

    def wait_until_healthy(self, process: Process, url: str) -> None:
        ca_file = ("--ca-file", str(self.tls.ca_file))

        def healthy() -> bool:
            assert process.runs, process.tail()
            return ctl("health", "-a", url, *ca_file, expect=None).code == 0

        until(f"{process.name} is healthy", healthy)

    def wait_until_known(self, token: str) -> None:
        """The controller looks at its tokens file once a second."""
        given = ("-a", self.url, "--ca-file", str(self.tls.ca_file))
        until("known", lambda: self.ctl("models", "list", *given, expect=None, CTL_TOKEN=token).code == 0)

    def start(self, *args: str, **variables: str) -> subprocess.Popen[str]:
        """A command that goes on until the test ends."""
        process = start(*args, env=variables)
        self._stack.callback(process.communicate)
        self._stack.callback(process.kill)
        return process

    def ctl(self, *args: str, expect: int | None = 0, **variables: str) -> Finished:
        """Runs a command, whose output may hold no secret."""
        env = {"XDG_CONFIG_HOME": str(self.folder / "config"), **variables}
        done = ctl(*args, expect=expect, env=env, cwd=self.folder)
        self.check_untold(done.out, done.err)
        return done

    def check_untold(self, *texts: str) -> None:
        assert not [secret for secret in self.secrets for text in texts if secret in text]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


VERBS = [
    f"models register {REFERENCE}",
    "models list",
    f"models get {REFERENCE}",
    f"models heartbeat {REFERENCE}",
    f"models drain {REFERENCE} --force",
    f"models undrain {REFERENCE}",
    "models prune --older-than 1d --yes",
    "events",
    "export",
    "status",
    "health",
    "assert qwen --min-healthy 1",
    "wait qwen --timeout 10s",
    "wait --controller --timeout 10s",
    "why qwen --no-probe",
    "doctor --no-probe",
    "auth status",
    f"models deregister {REFERENCE} --remove",
]


def test_a_context_with_a_ca_and_a_token_serves_every_command(cluster: Cluster) -> None:
    token_file = cluster.file("night.token", f"night:{cluster.operator}")
    given = ("--address", cluster.url, "--ca-file", str(cluster.tls.ca_file), "--token-file", token_file)
    cluster.ctl("context", "set", "prod", *given)
    cluster.ctl("context", "use", "prod")
    for verb in VERBS:
        done = cluster.ctl(*verb.split())
        assert "warning" not in done.err, verb
        if verb.startswith("models register"):
            offered = cluster.ctl("models", "get", "q", _CTL_COMPLETE="complete_zsh").out
            assert REFERENCE in offered
    cluster.check_untold(cluster.behind.log.read_text())


@pytest.mark.parametrize("verb", ["events -f", "models list --watch"])
def test_a_watch_ends_when_its_token_is_revoked(cluster: Cluster, verb: str) -> None:
    """A refusal is no outage to wait out."""
    given = ("-a", cluster.url, "--ca-file", str(cluster.tls.ca_file))
    cluster.ctl("models", "register", REFERENCE, *given, CTL_TOKEN=cluster.operator)
    token = cluster.create("watcher", "reader")
    cluster.wait_until_known(token)
    watch = cluster.start(*verb.split(), *given, "--request-timeout", "60s", CTL_TOKEN=token)
    assert watch.stdout is not None
    first = watch.stdout.readline()
    assert REFERENCE in first, (first, watch.communicate(timeout=60))
    cluster.revoke("watcher")
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == 7, err
    assert "token watcher is revoked" in err.splitlines()[-1]
    cluster.check_untold(err)


def test_without_the_ca_no_token_is_sent(cluster: Cluster) -> None:
    for verb in VERBS:
        code = 7 if verb.startswith("auth") else 3
        done = cluster.ctl(*verb.split(), "-a", cluster.url, expect=None, CTL_TOKEN=cluster.operator)
        assert done.code in {code, 3}, (verb, done.err)
        assert "--ca-file (of a controller that forwards: --remote-ca-file)" in done.out + done.err, verb
    for verb in VERBS:
        wrong = cluster.ctl(*verb.split(), "-a", cluster.url, "--ca-file", "no-such.pem", expect=2)
        assert wrong.err == "ctl: ca_file no-such.pem: no such file\n"
    assert cluster.ctl("events", "-a", cluster.url, "--ca-file", str(cluster.tls.ca_file), expect=7).out == ""


def test_a_controller_that_forwards_has_a_token_of_its_own(cluster: Cluster) -> None:
    port = free_port()
    url, token_file = f"http://127.0.0.1:{port}", cluster.file("front.token", f"front:{cluster.front}")
    ours = cluster.folder / "front.toml"
    cluster.tokens, theirs = ours, cluster.tokens
    worker, night = cluster.create("gpu", "worker"), cluster.create("night", "operator")
    cluster.tokens = theirs
    remote = ("--remote-addr", cluster.url, "--remote-ca-file", str(cluster.tls.ca_file))
    checked = ("--tokens-file", str(ours), "--auth", "enforce")
    forwarding = (*remote, "--remote-token-file", token_file, *checked, "--log-level", "debug")
    front = cluster.serve("front", "--port", str(port), *forwarding)
    cluster.wait_until_healthy(front, url)

    cluster.ctl("models", "register", REFERENCE, "-a", url, CTL_TOKEN=worker)
    refused = cluster.ctl("models", "drain", REFERENCE, "--force", "-a", url, expect=3, CTL_TOKEN=night)
    assert "the role of this controller's token does not allow it" in refused.err

    second = cluster.create("front-2", "operator")
    cluster.wait_until_known(second)
    cluster.file("front.token", f"front:{second}")
    until("the new token is sent", lambda: "another token is sent" in front.log.read_text())
    cluster.ctl("models", "drain", REFERENCE, "--force", "-a", url, CTL_TOKEN=night)

    cluster.revoke("front-2")

    def heartbeat() -> str:
        return cluster.ctl("models", "heartbeat", REFERENCE, "-a", url, expect=None, CTL_TOKEN=worker).err

    until("its token is refused", lambda: "503 the controller behind this one, " in heartbeat())
    assert "the token of this controller is revoked; give this controller a token" in heartbeat()
    unknown = cluster.ctl("models", "list", "-a", url, expect=7, CTL_TOKEN=cluster.operator)
    assert "401 the token is not known to this controller" in unknown.err
    assert front.terminate() == 0

    ended = cluster.ctl("serve", "--port", str(port), *forwarding, expect=1)
    (line,) = [line for line in ended.err.splitlines() if "CRITICAL" in line or line.startswith("ctl: the controller")]
    assert "the token of this controller is revoked" in line
    cluster.check_untold(front.log.read_text(), cluster.behind.log.read_text())
