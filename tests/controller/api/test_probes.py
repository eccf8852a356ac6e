"""/livez and /readyz, beside /api/health, in every state of a controller."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI

from dbgpt_ctl.auth.tokens import sha256_of
from dbgpt_ctl.clock import SystemClock
from dbgpt_ctl.controller.app import create_app
from dbgpt_ctl.controller.bootstrap import create_registry, initialize_controller
from dbgpt_ctl.controller.http.tls import TlsListener, WatchedCertificate
from dbgpt_ctl.controller.service import checks
from dbgpt_ctl.domain.controllers import Check
from dbgpt_ctl.registry.contract import RegistryFigures, RegistryHealth
from dbgpt_ctl.registry.embedded.registry import EmbeddedModelRegistry
from dbgpt_ctl.settings.schema import ControllerSettings
from tests.support.server import running_app
from tests.support.tls import authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dbgpt_ctl.controller.service.controller import Controller
    from tests.support.database_server import PrivateDatabase

HEALTH, LIVE, READY, VERBOSE = "/api/health", "/livez", "/readyz", "/readyz?verbose"
PATIENCE_SECS = 60.0
MAX_LAG_SECS = checks.MAX_LAG_SECS
EMBEDDED = ("shutdown", "registry", "pulse", "event-loop", "queue")


@dataclass
class Probed:
    """A running controller."""

    url: str
    controller: Controller

    def get(self, path: str, token: str | None = None, host: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers |= {} if host is None else {"Host": host}
        return httpx.get(f"{self.url}{path}", headers=headers, trust_env=False)

    def ready(self) -> bool:
        """What all three say. Fails where they differ, in any of their forms."""
        while True:
            before, *statuses, after = (self._status(method, path) for method, path in self._forms())
            if before == after:  # else the state changed meanwhile
                break
        assert set(statuses) == {before}
        assert self._status("GET", LIVE) == self._status("HEAD", f"{LIVE}?verbose") == 200
        return before == 200

    def _forms(self) -> list[tuple[str, str]]:
        asked = [(method, path) for method in ("GET", "HEAD") for path in (READY, VERBOSE)]
        return [("GET", HEALTH), *asked, ("GET", HEALTH)]

    def _status(self, method: str, path: str) -> int:
        return httpx.request(method, self.url + path, trust_env=False).status_code

    def lines(self, path: str = VERBOSE, token: str | None = None) -> list[str]:
        return self.get(path, token).text.splitlines()

    def checks(self) -> dict[str, str]:
        """The lines of the checks, by name."""
        return {line[3:].split(":")[0].split(" ")[0]: line for line in self.lines()[:-1]}

    def until(self, name: str, sign: str) -> str:
        """The line of a check, once it begins with this sign."""
        deadline = time.monotonic() + PATIENCE_SECS
        while not (line := self.checks().get(name, "")).startswith(sign):
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.02)
        return line


@contextmanager
def probed(settings: ControllerSettings, registry: EmbeddedModelRegistry | None = None) -> Iterator[Probed]:
    app = create_app(settings, registry or create_registry(settings))
    with running_app(app) as url:
        yield Probed(url, app.state.controller)


@contextmanager
def over(database: PrivateDatabase) -> Iterator[Probed]:
    server = database.server
    settings = ControllerSettings(
        registry_type="database",
        registry_db_type="mysql",
        registry_db_host="127.0.0.1",
        registry_db_port=server.port,
        registry_db_user=server.user,
        registry_db_password=server.password,
        registry_db_name=database.name,
    )
    with probed(settings) as running:
        yield running


@pytest.fixture(autouse=True)
def a_machine_that_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one test is about the event loop. In the others it may be late because of what else the machine does."""
    monkeypatch.setattr(checks, "MAX_LAG_SECS", 3600.0)


@pytest.fixture
def database(mariadb: PrivateDatabase) -> Iterator[PrivateDatabase]:
    """Is up again when the test is over."""
    yield mariadb
    if mariadb.server.process is None:
        mariadb.server.start()


def test_a_controller_that_is_well() -> None:
    with probed(ControllerSettings()) as running:
        assert running.ready()
        for path in (LIVE, READY):
            reply = running.get(path)
            assert (reply.text, reply.headers["content-type"]) == ("ok", "text/plain; charset=utf-8")
        shown = [f"[+]{name} ok" for name in EMBEDDED]
        assert running.lines() == [*shown, "readyz check passed"]
        assert running.lines("/livez?verbose=1") == [*shown, "livez check passed"]


@pytest.mark.slow
def test_a_database_that_is_down_takes_no_controller_out_of_service(database: PrivateDatabase) -> None:
    with over(database) as running:
        assert running.ready()
        of_registry = ["database", "pulse", "tables", "controllers", "clock"]
        assert [*running.checks()] == ["shutdown", *of_registry, "event-loop", "queue"]
        database.server.stop()
        line = running.until("database", "[-]")
        assert "lists are as of" in line
        assert database.server.password not in line
        assert running.ready()
        assert running.lines()[-1] == "readyz check passed although 1 check failed: lists can be answered"
        assert running.lines("/livez?verbose")[-1] == "livez check passed although 1 check failed: the process answers"
        reason = running.get(HEALTH).json()["reason"]
        assert line == f"[-]database: {reason}"
        database.server.start()
        assert running.until("database", "[+]") == "[+]database ok"
        assert running.ready()


@pytest.mark.slow
def test_while_the_registry_opens_it_is_live_and_not_ready(database: PrivateDatabase) -> None:
    database.server.stop()
    with over(database) as running:
        assert not running.ready()
        reply = running.get(READY)
        assert (reply.status_code, reply.text) == (503, running.get(VERBOSE).text)
        assert running.checks()["database"] == f"[-]database: {running.get(HEALTH).json()['detail']}"
        assert running.lines()[-1] == "readyz check failed"
        database.server.start()
        running.until("database", "[+]")
        assert running.ready()


def test_a_controller_that_leaves_or_is_closed_is_not_ready() -> None:
    with probed(ControllerSettings()) as running:
        running.controller.leave()
        assert not running.ready()
        assert running.lines()[0] == "[-]shutdown: this controller is leaving"
        assert running.lines()[-1] == "readyz check failed"
        assert running.lines("/livez?verbose")[-1].startswith("livez check passed although 1 check failed")
    closed = EmbeddedModelRegistry(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with probed(ControllerSettings(), closed) as running:
        asyncio.run(closed.close())
        assert not running.ready()
        assert running.checks()["registry"] == "[-]registry: the registry is closed"


def tokens(folder: Path, mode: str = "enforce") -> Path:
    path = folder / "tokens.toml"
    roles = {"reader": "reader", "metrics": "metrics", "operator": "operator"}
    sections = [f'[token.{name}]\nrole = "{role}"\nsha256 = ["{sha256_of(name)}"]\n' for name, role in roles.items()]
    past = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
    sections.append(f'[token.old]\nrole = "operator"\nsha256 = ["{sha256_of("old")}"]\nexpires = {past}\n')
    path.write_text(f'mode = "{mode}"\n' + "\n".join(sections))
    path.chmod(0o600)
    return path


def test_a_tokens_file_that_is_broken_leaves_it_ready(tmp_path: Path) -> None:
    path = tokens(tmp_path, "log")
    good = path.read_text()
    with probed(ControllerSettings(tokens_file=str(path))) as running:
        assert running.checks()["tokens-file"] == "[+]tokens-file ok"
        path.write_text("mode = ")
        assert str(path) in running.until("tokens-file", "[-]")
        assert running.ready()
        path.write_text(good)
        running.until("tokens-file", "[+]")


@pytest.mark.parametrize("token", [None, "unknown", "old", "metrics"])
def test_without_a_token_that_may_read_there_is_no_reason(token: str | None, tmp_path: Path) -> None:
    """Everybody may call the probes; the reasons name hosts and files."""
    with probed(ControllerSettings(tokens_file=str(tokens(tmp_path)))) as running:
        assert running.get(READY, token).text == running.get(LIVE, token).text == "ok"
        running.controller.leave()
        hidden = running.get(READY, token)
        assert hidden.status_code == 503
        assert hidden.text.splitlines()[0] == "[-]shutdown: a token shows why"
        assert running.get(READY, "reader").text.splitlines()[0] == "[-]shutdown: this controller is leaving"
        assert running.get(READY, "operator").text == running.get(READY, "reader").text
        assert not running.ready()


class Troubled(EmbeddedModelRegistry):
    """Its calls wait, and a stranger has written a row."""

    waiting_calls = 0

    def figures(self) -> RegistryFigures:
        return RegistryFigures(waiting_calls=self.waiting_calls)

    def health(self) -> RegistryHealth:
        return super().health().with_checks(Check("tables", "weight is '\x1b[2J\nü'"))


def test_a_reason_reaches_the_terminal_on_one_line_and_escaped() -> None:
    with probed(
        ControllerSettings(), Troubled(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    ) as running:
        assert "[-]tables: weight is '\\x1b[2J\\nü'" in running.lines()


def test_the_status_has_the_same_checks_as_objects() -> None:
    registry = Troubled(clock=SystemClock(), heartbeat_timeout=timedelta(seconds=60))
    with probed(ControllerSettings(), registry) as running:
        registry.waiting_calls = 6000
        shown = running.get("/api/v1/status").json()
        found = {check["name"]: check for check in shown["checks"]}
        assert found["registry"] == {"name": "registry", "ok": True, "detail": None}
        detail = "6000 calls wait for a transaction of the registry, and clients give up after 5 s"
        assert found["queue"] == {"name": "queue", "ok": False, "detail": detail}
        assert shown["registry"]["reason"] == found["tables"]["detail"]
        assert [*found] == [*running.checks()]
        assert "queue" not in running.get(HEALTH).text  # health says what is wrong with the registry, as before
        assert running.lines()[-1] == "readyz check passed although 2 checks failed: lists can be answered"


def test_a_loop_that_is_blocked_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_LAG_SECS", MAX_LAG_SECS)
    app = create_app(ControllerSettings(), create_registry(ControllerSettings()))

    async def block() -> str:
        time.sleep(2 * MAX_LAG_SECS)  # noqa: ASYNC251 - the mistake that the check is to find
        return "done"

    app.add_api_route("/block", block)
    with running_app(app) as url:
        running = Probed(url, app.state.controller)
        assert running.until("event-loop", "[+]") == "[+]event-loop ok"
        assert httpx.get(f"{url}/block", trust_env=False, timeout=PATIENCE_SECS).json() == "done"
        assert "s for the event loop within the last 30 s" in running.until("event-loop", "[-]")
        assert running.ready()


def test_a_certificate_that_expires_soon_shows(tmp_path: Path) -> None:
    issuer, clock = authority(tmp_path), SystemClock()
    end = clock.now() + timedelta(days=3)
    issuer.write(issuer.issue(not_after=end))
    with probed(ControllerSettings()) as running:
        watched = WatchedCertificate(str(issuer.cert), str(issuer.key), clock)
        running.controller.tls = TlsListener(sock=None, certificate=watched)  # type: ignore[arg-type]
        expected = f"[-]certificate: the certificate in use expires at {end:%Y-%m-%dT%H:%M:%SZ}"
        assert running.checks()["certificate"] == expected
        assert running.ready()


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (None, "10.0.0.7:8000", 421),
        (None, "localhost", 200),
        ("ctl.example", "10.0.0.7:8000", 421),
        ("ctl.example,10.0.0.0/8", "10.0.0.7:8000", 200),
        ("ctl.example", "localhost", 200),
    ],
)
def test_a_kubelet_calls_by_the_address_of_the_pod(allowed: str | None, host: str, status: int) -> None:
    """A probe may also set its header Host to `localhost`, which is always allowed."""
    with probed(ControllerSettings(allowed_hosts=allowed)) as running:
        assert [running.get(path, host=host).status_code for path in (HEALTH, LIVE, READY)] == [status] * 3


def test_any_host_may_probe_a_controller_that_is_not_on_loopback() -> None:
    with probed(ControllerSettings(host="0.0.0.0")) as running:
        assert running.get(READY, host="10.0.0.7:8000").status_code == 200


def test_an_application_of_somebody_else_has_no_probes() -> None:
    app = FastAPI()
    initialize_controller(app)
    with running_app(app) as url:
        assert [httpx.get(url + path, trust_env=False).status_code for path in (HEALTH, LIVE, READY)] == [200, 404, 404]
