"""Tokens and TLS are rolled out in a running cluster of unmodified DB-GPT: no chat fails.

The steps are those of docs/security.md. Two controllers share one registry, so that each can be restarted. Two API
servers stand behind a load balancer, which takes one out of service before it is restarted. Each worker is drained
before it is restarted. One worker and one API server are of each release of DB-GPT, so that each API server calls
workers of both. Chats go on all the time.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.chats import Chats
from tests.support.dbgpt import RELEASES, require
from tests.support.dbgpt_cluster import Controller, Lab, Worker, reference, start_api_server, start_worker
from tests.support.dbgpt_openai import MODEL
from tests.support.dbgpt_process import Process, get, until
from tests.support.ports import free_port
from tests.support.private_authority import PrivateAuthority
from tests.support.token_file import LabTokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.interop.conftest import NewLab
    from tests.support.dbgpt_openai import FakeOpenAI

pytestmark = pytest.mark.interop

GRACE_SECONDS = 8
"""A controller serves on that long after SIGTERM: longer than the 5 s between two health checks of DB-GPT."""
LISTS = "GET /api/controller/models"


@dataclass
class ApiServer:
    process: Process
    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"


@dataclass
class Rollout:
    """A cluster, and what its next processes are started with.

    `reader` and `worker` name the tokens of API servers and workers; without one they are started without a token.
    With `authority` the next processes of DB-GPT and calls of `ctl` use https.
    """

    lab: Lab
    openai: FakeOpenAI
    tokens: LabTokens
    chats: Chats = field(default_factory=Chats)
    reader: str = ""
    worker: str = ""
    operator: str = ""
    authority: PrivateAuthority | None = None
    controllers: list[Controller] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)
    api_servers: list[ApiServer] = field(default_factory=list)

    def start(self) -> None:
        """All processes, as in a cluster without tokens."""
        for number in (1, 2):
            name = f"controller-{number}"
            controller = Controller(self.lab, "sqlite", name=name, grace=GRACE_SECONDS, database="registry")
            self.controllers.append(controller.start())
        self.workers = [self._start_worker(number, free_port()) for number in (0, 1)]
        self.api_servers = [self._start_api_server(number, free_port()) for number in (0, 1)]
        for worker in self.workers:
            self._wait_for_worker(worker)
        for api_server in self.api_servers:
            self._wait_for_api_server(api_server)
            self.chats.put_into_service(api_server.base)

    def addresses(self, token: str = "") -> str:
        """What stands in the configuration of DB-GPT: all controllers, with the token of this name if there is one."""
        return ",".join(self._address(controller, token) for controller in self.controllers)

    def _address(self, controller: Controller, token: str) -> str:
        url = controller.url if self.authority is None else controller.tls_url
        return url.replace("//", f"//{self.tokens.credentials(token)}@") if token else url

    def ctl(self, *args: str, controller: Controller | None = None) -> str:
        """The output of `ctl`, run as the operator. Asserts that it succeeds. `controller`: only this one is asked."""
        address = self.addresses() if controller is None else self._address(controller, "")
        variables = {"CONTROLLER_ADDRESS": address}
        if self.operator:
            variables["CTL_TOKEN"] = self.tokens.credentials(self.operator)
        if self.authority:
            variables["CONTROLLER_CA_FILE"] = str(self.authority.certificate)
        done = self.lab.ctl(*args, **variables)
        assert done.returncode == 0, f"ctl {' '.join(args)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def auth_reports(self, *options: str) -> list[dict[str, Any]]:
        """What `ctl auth status` says of each controller."""
        report = json.loads(self.ctl("auth", "status", *options, "-o", "json"))
        return [controller["auth"] for controller in report["controllers"]]

    def wait_until_used(self, token: str, since: datetime) -> None:
        """Returns when the newest token of this name was used after that time."""

        def is_used() -> bool:
            tokens = [each for report in self.auth_reports() for each in report["tokens"] if each["name"] == token]
            return any(is_after(each["last_used"], since) for each in tokens)

        until(f"use of {token}", is_used)

    def restart_controller(self, controller: Controller, *flags: str) -> None:
        """With these flags from now on. The other controller serves meanwhile."""
        assert controller.process.terminate(controller.grace) == 0
        controller.flags = [*controller.flags, *flags]
        controller.start()

    def restart_api_servers(self) -> None:
        for number, api_server in enumerate(self.api_servers):
            self.chats.take_out_of_service(api_server.base)
            api_server.process.interrupt()
            started = self._start_api_server(number, api_server.port)
            self._wait_for_api_server(started)
            self.chats.put_into_service(started.base)
            self.api_servers[number] = started

    def restart_workers(self) -> None:
        for number, worker in enumerate(self.workers):
            self.ctl("models", "drain", worker.model, "--reason", "new token", "--wait")
            self.chats.wait_for_those_in_progress()
            worker.process.interrupt()
            started = self._start_worker(number, worker.port)
            self._wait_for_worker(started)
            self.ctl("models", "undrain", worker.model)
            self.workers[number] = started

    def _start_worker(self, number: int, port: int) -> Worker:
        release, addresses = RELEASES[number], self.addresses(self.worker)
        name = f"worker-{release.version}"
        return start_worker(self.lab, release, addresses, self.openai.base, name, port=port, env=self._trusting())

    def _start_api_server(self, number: int, port: int) -> ApiServer:
        release, addresses = RELEASES[number], self.addresses(self.reader)
        name = f"apiserver-{release.version}"
        process, _ = start_api_server(self.lab, release, addresses, name, port=port, env=self._trusting())
        return ApiServer(process, port)

    def _trusting(self) -> dict[str, str]:
        """The environment of a process of DB-GPT: one variable for each of its two HTTP libraries."""
        if self.authority is None:
            return {}
        return dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(self.authority.bundle))

    def _wait_for_worker(self, worker: Worker) -> None:
        url = f"{self._address(self.controllers[0], self.operator)}/api/controller/models"
        certificate = self.authority.certificate if self.authority else None

        def is_registered() -> bool:
            listed = get(url, certificate, healthy_only="false") or []
            return {worker.model, worker.service} <= {reference(each) for each in listed if each["healthy"]}

        until(worker.process.name, is_registered, worker.process)

    def _wait_for_api_server(self, api_server: ApiServer) -> None:
        until(api_server.process.name, lambda: get(f"{api_server.base}/models"), api_server.process)


@pytest.mark.timeout(600)
def test_the_rollout_fails_no_chat(
    new_lab: NewLab, openai: FakeOpenAI, record_property: Callable[[str, object], None]
) -> None:
    for release in RELEASES:
        require(release)
    with new_lab("rollout") as lab:
        rollout = Rollout(lab, openai, LabTokens(lab))
        rollout.start()
        with rollout.chats.running():
            authority = PrivateAuthority(lab.folder)
            prepare_controllers(rollout, authority)
            log(rollout)
            move_to_tokens(rollout)
            enforce(rollout)
            rotate(rollout)
            move_to_tls(rollout, authority)
            close_http(rollout)
            rollout.chats.wait_for_more(10)
        record_property("figure", f"{rollout.chats.number} chats, {len(rollout.chats.failed)} failed")
        assert rollout.chats.failed == []
        logs = "".join(each.process.log.read_text(encoding="utf-8") for each in rollout.controllers)
        assert not [token for token in rollout.tokens.ever if token in logs]


def prepare_controllers(rollout: Rollout, authority: PrivateAuthority) -> None:
    """They read a tokens file and listen with TLS too. Nothing is checked yet."""
    tokens = rollout.tokens
    tokens.create("workers", "worker", "--models", f"{MODEL}@llm", "--hosts", "127.0.0.0/8")
    tokens.create("api-servers", "reader")
    tokens.create("ops", "operator")
    certificate, key = authority.issue("controller")
    for controller in rollout.controllers:
        tls = ("--tls-port", str(controller.tls_port), "--tls-cert", str(certificate), "--tls-key", str(key))
        rollout.restart_controller(controller, "--tokens-file", str(tokens.path), *tls)
    assert {report["mode"] for report in rollout.auth_reports()} == {"off"}


def log(rollout: Rollout) -> None:
    """Everybody is served, and everybody who comes without a token is listed."""
    rollout.tokens.set_mode("log")
    rollout.operator = "ops"
    expected = {worker.model for worker in rollout.workers} | {LISTS}

    def without_token() -> set[str]:
        rows = [row for report in rollout.auth_reports() for row in report["refusals"]["rows"]]
        return {reference(row) if row["port"] else row["request"] for row in rows if row["reason"] == "none"}

    until("list of everybody", lambda: expected <= without_token())


def move_to_tokens(rollout: Rollout) -> None:
    """API servers and workers are restarted with tokens. Then nobody comes without one."""
    rollout.reader = "api-servers"
    rollout.restart_api_servers()
    rollout.worker = "workers"
    rollout.restart_workers()
    moved = datetime.now(UTC)
    for token in ("api-servers", "workers"):
        rollout.wait_until_used(token, moved)
    rollout.ctl("auth", "status", "--check", "--since", moved.isoformat())


def enforce(rollout: Rollout) -> None:
    rollout.tokens.set_mode("enforce")
    until("mode enforce", lambda: {report["mode"] for report in rollout.auth_reports()} == {"enforce"})
    rollout.chats.wait_for_more(10)
    assert get(f"{rollout.controllers[0].url}/api/controller/models") is None


def rotate(rollout: Rollout) -> None:
    """Two tokens are valid until the workers have the new one. Then the old one is revoked."""
    url, old = rollout.controllers[0].url, rollout.tokens.credentials("workers")
    rollout.tokens.rotate("workers")
    rollout.restart_workers()
    restarted = datetime.now(UTC)
    rollout.wait_until_used("workers", restarted)
    old_uses = [token["old_last_used"] for report in rollout.auth_reports() for token in report["tokens"]]
    assert not any(is_after(used, restarted) for used in old_uses)
    listed = f"{url.replace('//', f'//{old}@')}/api/controller/models"
    assert get(listed) is not None
    rollout.tokens.revoke_old("workers")
    until("end of the old token", lambda: get(listed) is None)


def move_to_tls(rollout: Rollout, authority: PrivateAuthority) -> None:
    """The clients change to https one by one, while the others use http."""
    rollout.authority = authority
    rollout.restart_api_servers()
    rollout.restart_workers()


def close_http(rollout: Rollout) -> None:
    assert rollout.authority is not None
    for controller in rollout.controllers:
        controller.authority = rollout.authority.certificate
        rollout.restart_controller(controller, "--no-http")
        assert get(f"{controller.url}/api/health") is None


def is_after(time: str | None, other: datetime) -> bool:
    return time is not None and datetime.fromisoformat(time) > other
